"""Comparisons of reports that were made up, so that the answer is known."""

import math
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet.comparison.compare import compare_groups, compare_pair, describe_group
from ccnet.comparison.run_report import RunReport
from ccnet.comparison.student import mean_interval, welch_interval
from ccnet.config import compose_config, to_yaml
from ccnet.errors import ConfigError, DataError
from ccnet.evaluation.bootstrap import paired
from tests.comparison.made_reports import CLASSES, FLAGS, made_images

PLAIN = {key: str(value) for key, value in FLAGS.items()}


def report(share: float, seed: int = 0, path: Path = Path("run/report")) -> RunReport:
    return RunReport(path, None, PLAIN, "[]", made_images(share, seed=seed), CLASSES)


@pytest.fixture(scope="module")
def config() -> str:
    """The default run's configuration as text."""
    return to_yaml(compose_config())


def group(folder: Path, config: str, share: float, seeds: tuple[int, ...] = (0, 1, 2)) -> list[RunReport]:
    """Runs of the configuration that differ by seed and name."""
    reports = []
    for seed in seeds:
        run = folder / f"share {share} seed {seed}"
        run.mkdir()
        text = config.replace("seed: 0\n", f"seed: {seed}\n", 1).replace("name: ", "name: a", 1)
        (run / "config.yaml").write_text(text, encoding="utf-8")
        reports.append(report(share, seed, run / "report"))
    return reports


def test_a_pair() -> None:
    """Oracle: the paired bootstrap of the images, and the warning that one run each is."""
    first, second = report(0.8), report(0.9, seed=1, path=Path("other/report"))
    found = compare_pair(first, second)
    expected = paired(first.images, second.images)
    assert [side.scores for side in found.sides] == [expected.first, expected.second]
    assert found.difference == expected.difference
    assert found.difference.mean_iou.excludes_zero
    assert found.method == "paired bootstrap over 12 images"
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("one run each: the interval covers the images, not the training")


def test_one_checkpoint_asked_in_two_ways() -> None:
    """Oracle: the warning names what differs; that training is not covered matters only between two checkpoints."""
    first = replace(report(0.8), checkpoint="abc")
    second = replace(first, path=Path("run/report/flip"), flags={**PLAIN, "flip": "True"})
    (warning,) = compare_pair(first, second).warnings
    assert warning == "NOT EVALUATED IN THE SAME WAY (flip: False -> True): the difference is of that, too"
    assert compare_pair(first, replace(second, flags=PLAIN)).warnings == []
    (unknown,) = compare_pair(first, replace(second, flags=None)).warnings
    assert "does not say how it was evaluated" in unknown
    assert len(compare_pair(first, replace(second, checkpoint="def")).warnings) == 2


def test_what_cannot_be_compared() -> None:
    """Oracle: one line that names both and the first thing that differs."""
    first = report(0.8)
    images = list(first.images)
    cases = {
        r"not the same classes \('grass', 'sky'\)": replace(first, class_names=["road", "grass"]),
        r"not the same classes \(their order differs\)": replace(first, class_names=CLASSES[::-1]),
        "12 and 11 images": replace(first, images=images[:-1]),
        r"one has image '3\.png', the other has 'x'": replace(
            first, images=[*images[:3], replace(images[3], name="x"), *images[4:]]
        ),
        r"image or mask of '11\.png' is not the same": replace(
            first, images=[*images[:-1], replace(images[-1], digest="f" * 64)]
        ),
    }
    for message, changed in cases.items():
        other = replace(changed, path=Path("other/report"))
        with pytest.raises(DataError, match=f"run/report and other/report cannot be compared: .*{message}"):
            compare_pair(first, other)
        with pytest.raises(DataError, match=message):
            describe_group([first, other])
        with pytest.raises(DataError, match=message):
            compare_groups([first], [other])


def test_a_report_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a line that names it, however its path is written and wherever it stands."""
    monkeypatch.chdir(tmp_path)
    one, same = report(0.8), report(0.8, path=tmp_path / "run" / "x" / ".." / "report")
    other = report(0.9, path=Path("other"))
    with pytest.raises(ConfigError, match="is named twice"):
        compare_pair(one, same)
    with pytest.raises(ConfigError, match="run/report is named twice; a report compared with itself tells"):
        describe_group([one, other, same])
    with pytest.raises(ConfigError, match="is named twice"):
        compare_groups([one, other], [same, other])


def test_a_group_without_any_score(tmp_path: Path, config: str) -> None:
    """Oracle: no mean, no deviation, and the reason, where no image has a valid pixel."""
    reports = [
        replace(each, images=[replace(image, counts=0 * image.counts) for image in each.images])
        for each in group(tmp_path, config, 0.8)
    ]
    (side,) = describe_group(reports).sides
    assert side.deviation is None
    assert math.isnan(side.scores.mean_iou.value)
    assert side.scores.mean_iou.reason == "not there in every run"


def test_runs_may_differ_by_what_changes_no_score(tmp_path: Path, config: str) -> None:
    """Oracle: the keys in which a run that goes on may differ as well."""
    reports = group(tmp_path, config, 0.8)
    path = reports[1].path.parent / "config.yaml"
    text = path.read_text(encoding="utf-8")
    changed = re.sub(r"(?m)^(  workers|  save_every|  log_every): .*$", r"\1: 3", text)
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    assert list(describe_group(reports).sides[0].seeds) == [0, 1, 2]


def test_a_group(tmp_path: Path, config: str) -> None:
    """Oracle: the standard library's deviation, and the interval of the mIoU of the runs."""
    reports = group(tmp_path, config, 0.8)
    found = describe_group(reports)
    mean_iou = [each.mean_iou for each in reports]
    (side,) = found.sides
    assert side.scores.mean_iou == mean_interval(mean_iou)
    assert side.deviation == pytest.approx(statistics.stdev(mean_iou))
    assert list(side.seeds) == [0, 1, 2]
    assert (found.difference, found.method) == (None, "Student's t over 3 seeds")


def test_two_groups(tmp_path: Path, config: str) -> None:
    """Oracle: Welch's interval of the mIoU of the runs, for the classes as for their mean."""
    first, second = group(tmp_path, config, 0.8), group(tmp_path, config, 0.9, seeds=(3, 4))
    found = compare_groups(first, second)
    assert found.difference is not None
    expected = welch_interval(*([each.mean_iou for each in side] for side in (first, second)))
    assert found.difference.mean_iou == expected
    assert expected.excludes_zero
    assert len(found.difference.iou) == 2
    assert found.method == "Welch interval, 3 and 2 seeds"
    assert [len(side.reports) for side in found.sides] == [3, 2]


def test_groups_that_are_none(tmp_path: Path, config: str) -> None:
    """Oracle: the keys that differ, the seed that is there twice, the run that is alone, other flags."""
    reports = group(tmp_path, config, 0.8, seeds=(0, 1))
    with pytest.raises(ConfigError, match="two runs of one group have seed 1"):
        describe_group([reports[1], replace(reports[1], path=reports[1].path.parent / "again")])
    with pytest.raises(ConfigError, match="alone is no group of seeds; name two runs or more"):
        compare_groups(reports[:1], reports[1:])
    for changes in ({"flags": {**PLAIN, "flip": "True"}}, {"network": "[3]"}):
        with pytest.raises(DataError, match="were not evaluated in the same way"):
            describe_group([reports[0], replace(reports[1], **changes)])
    changed = config.replace("max_steps: 680", "max_steps: 681").replace("seed: 0\n", "seed: 1\n", 1)
    assert changed != config
    (reports[1].path.parent / "config.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"differ by more than their seed \(trainer\.max_steps: 680 -> 681\)"):
        describe_group(reports)
