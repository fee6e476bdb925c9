"""Looks at the splits of a configuration's data set and tells what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ccnet import build
from ccnet.data.doctor.between import check_between
from ccnet.data.doctor.confirmation import confirmed, held_against_train
from ccnet.data.doctor.examination import chosen, examine_all
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.doctor.split import absent_classes, check_split
from ccnet.data.doctor.statistics import Statistics, statistics
from ccnet.data.sample import LabelledImages, SegmentationDataset
from ccnet.errors import DataError
from ccnet.losses.class_weights import Rule, weights_from_pixels
from ccnet.schema import RunConfig

SAMPLE = 200  # files looked at in each split, unless all are
RULES: tuple[Rule, ...] = ("inverse_log", "effective_number")


@dataclass
class Inspection:
    """What was found.

    datasets, looked_at, statistics: by split; a split that cannot be opened has none, one that cannot be read has no
        statistics.
    """

    findings: list[Finding] = field(default_factory=list)
    datasets: dict[str, LabelledImages] = field(default_factory=dict)
    looked_at: dict[str, list[int]] = field(default_factory=dict)
    statistics: dict[str, Statistics] = field(default_factory=dict)

    @property
    def has_errors(self) -> bool:
        """Whether training on this would be wrong."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)

    def class_weights(self, split: str) -> dict[Rule, list[float]]:
        """A weight per class by each rule; empty where the split has no labelled pixel."""
        figures = self.statistics.get(split)
        if figures is None or not any(figures.class_pixels):
            return {}
        return {rule: weights_from_pixels(rule, figures.class_pixels) for rule in RULES}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "findings": [finding.as_dict() for finding in self.findings],
            "splits": {
                split: {
                    "images": len(dataset),
                    "looked_at": len(self.looked_at[split]),
                    "class_names": dataset.class_names,
                    "class_weights": self.class_weights(split),
                    "statistics": self.statistics[split].as_dict() if split in self.statistics else None,
                }
                for split, dataset in self.datasets.items()
            },
        }


def inspect(config: RunConfig, splits: Sequence[str], *, full: bool, workers: int) -> Inspection:
    """Looks at a random sample of each split, or at everything.

    Args:
        config: its data set, seed and training split count.
        splits: their names.
        full: all files, instead of 200 of each split.
        workers: processes that read.

    Raises:
        DataError: a worker process died or hung.
    """
    done = Inspection()
    for split in splits:
        try:
            dataset = build.build_part(config.dataset, split=split)  # labelled or not
        except DataError as error:
            done.findings.append(Finding(Kind.FILES, Severity.ERROR, split, str(error)))
            continue
        done.datasets[split] = dataset
        done.looked_at[split] = chosen(len(dataset), None if full else SAMPLE, config.seed)
        examinations = examine_all(dataset, done.looked_at[split], workers, split)
        found = check_split(split, dataset, examinations)
        done.findings += confirmed(found, dataset, examinations, done.looked_at[split], config.seed)
        if split == config.train_split:
            done.findings += absent_classes(split, dataset, examinations)
        if (figures := statistics(examinations, dataset.num_classes)) is not None:
            done.statistics[split] = figures
    if config.train_split in done.datasets:
        done.findings = held_against_train(done.findings, config.train_split)
    for first, second in combinations(done.datasets, 2):
        done.findings += _between(done, first, second, None if full else SAMPLE)
    done.findings.sort(key=lambda finding: finding.severity)
    return done


def _between(done: Inspection, first: str, second: str, most: int | None) -> list[Finding]:
    one, other = done.datasets[first], done.datasets[second]
    if not isinstance(one, SegmentationDataset) or not isinstance(other, SegmentationDataset):
        return []
    looked_at = [other.pairs[index] for index in done.looked_at[second]]
    return check_between((first, second), one.pairs, looked_at, most=most)
