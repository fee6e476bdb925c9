"""Two evaluations of the same images, or groups of runs that differ by their seed only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from ccnet.comparison.run_report import RunReport
from ccnet.comparison.student import mean_interval, welch_interval
from ccnet.config import differing_keys
from ccnet.errors import ConfigError, DataError
from ccnet.evaluation.bootstrap import Intervals, mean_and_iou, paired
from ccnet.run import MAY_DIFFER

OF_A_RUN = MAY_DIFFER | {"seed", "name"}  # keys in which the runs of a group may differ
ONE_RUN_EACH = "one run each: the interval covers the images, not the training; --against compares several seeds"
SAME_IMAGES = "the interval covers the training, not the images: other images would move all runs"


@dataclass(frozen=True)
class Side:
    """One of two that are compared, or the only one.

    Args:
        reports: one, or that of each run of a group.
        scores: of the report, or the means over the group.
        seeds: of the group's runs; empty for a single report.
        deviation: standard deviation of the group's mIoU; none for a single report, or where a run has no mIoU.
    """

    reports: Sequence[RunReport]
    scores: Intervals
    seeds: Sequence[int] = ()
    deviation: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Args:
        sides: A, and B where there are two.
        difference: B - A; none for a single group.
        method: where the intervals come from.
        warnings: what a reader of the numbers has to know.
    """

    sides: Sequence[Side]
    difference: Intervals | None
    method: str
    warnings: Sequence[str]

    @property
    def class_names(self) -> Sequence[str]:
        return self.sides[0].reports[0].class_names


def compare_pair(first: RunReport, second: RunReport) -> Comparison:
    """Two evaluations, by paired bootstrap over their images.

    Raises:
        DataError: they are of other images, labels or classes.
        ConfigError: they are one.
    """
    _require_comparable([first, second])
    warnings = _flag_warnings(first, second)
    if first.checkpoint is None or first.checkpoint != second.checkpoint:
        warnings.append(ONE_RUN_EACH)
    found = paired(first.images, second.images)
    sides = [Side([first], found.first), Side([second], found.second)]
    return Comparison(sides, found.difference, f"paired bootstrap over {len(first.images)} images", warnings)


def compare_groups(first: Sequence[RunReport], second: Sequence[RunReport]) -> Comparison:
    """Two groups of runs, by Welch's interval over their seeds.

    Raises:
        DataError: they are of other images, labels or classes.
        ConfigError: the runs of a group differ by more than their seed, or not by that; or one is there twice.
    """
    _require_comparable([*first, *second])
    sides = [_side(first), _side(second)]
    columns = zip(_columns(first), _columns(second), strict=True)
    mean, *iou = (welch_interval(*pair) for pair in columns)
    method = f"Welch interval, {len(first)} and {len(second)} seeds"
    return Comparison(sides, Intervals(mean, iou), method, [*_flag_warnings(first[0], second[0]), SAME_IMAGES])


def describe_group(reports: Sequence[RunReport]) -> Comparison:
    """One group of runs: their mean and its interval by Student's t over the seeds.

    Raises:
        DataError: they are of other images, labels or classes.
        ConfigError: the runs differ by more than their seed, or not by that; or one is there twice.
    """
    _require_comparable(reports)
    return Comparison([_side(reports)], None, f"Student's t over {len(reports)} seeds", [SAME_IMAGES])


def _side(reports: Sequence[RunReport]) -> Side:
    seeds, (mean_iou, *iou) = _seeds(reports), _columns(reports)
    scores = Intervals(mean_interval(mean_iou), [mean_interval(values) for values in iou])
    deviation = None if any(map(math.isnan, mean_iou)) else stdev(mean_iou)
    return Side(reports, scores, seeds, deviation)


def _columns(reports: Sequence[RunReport]) -> list[tuple[float, ...]]:
    """The mIoU of each run, then their IoU of each class."""
    return list(zip(*(mean_and_iou(report.images).tolist() for report in reports), strict=True))


def _seeds(reports: Sequence[RunReport]) -> list[int]:
    """That of each run.

    Raises:
        ConfigError: they do not differ by their seed alone.
        DataError: they were not evaluated in one way.
    """
    if len(reports) < 2:
        raise ConfigError(f"{reports[0].path} alone is no group of seeds; name two runs or more")
    first, *others = configs = [report.config() for report in reports]
    for report, config in zip(reports[1:], others, strict=True):
        changed = {key: change for key, change in differing_keys(first, config).items() if key not in OF_A_RUN}
        if changed:
            listed = "; ".join(f"{key}: {change}" for key, change in list(changed.items())[:8])
            raise ConfigError(f"{reports[0].path} and {report.path} differ by more than their seed ({listed})")
        if _flags_that_differ(reports[0], report) or reports[0].network != report.network:
            raise DataError(f"{reports[0].path} and {report.path} were not evaluated in the same way")
    seeds = [config.seed for config in configs]
    if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
        raise ConfigError(f"two runs of one group have seed {min(twice)}; seeds that differ are what is compared")
    return seeds


def _flag_warnings(first: RunReport, second: RunReport) -> list[str]:
    if first.flags is None or second.flags is None:
        silent = first if first.flags is None else second
        return [f"{silent.path} does not say how it was evaluated (flip, scales, windows); it may not be as the other"]
    listed = "; ".join(_flags_that_differ(first, second))
    return [f"NOT EVALUATED IN THE SAME WAY ({listed}): the difference is of that, too"] if listed else []


def _flags_that_differ(first: RunReport, second: RunReport) -> list[str]:
    one, two = first.flags or {}, second.flags or {}
    keys = sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))
    return [f"{key}: {one.get(key, 'absent')} -> {two.get(key, 'absent')}" for key in keys]


def _require_comparable(reports: Sequence[RunReport]) -> None:
    places = [report.path.resolve() for report in reports]
    for report, place in zip(reports, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{report.path} is named twice; a report compared with itself tells nothing")
    first = reports[0]
    for other in reports[1:]:
        where = f"{first.path} and {other.path} cannot be compared"
        if first.class_names != other.class_names:
            only = sorted(set(first.class_names) ^ set(other.class_names))
            raise DataError(f"{where}: not the same classes ({str(only[:4])[1:-1] or 'their order differs'})")
        if len(first.images) != len(other.images):
            raise DataError(f"{where}: {len(first.images)} and {len(other.images)} images")
        for one, two in zip(first.images, other.images, strict=True):
            if one.name != two.name:
                raise DataError(f"{where}: where one has image {one.name!r}, the other has {two.name!r}")
            if one.digest != two.digest:
                raise DataError(f"{where}: image or mask of {one.name!r} is not the same")
