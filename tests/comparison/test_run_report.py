"""Reports of evaluations, whole, missing and damaged."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ccnet.comparison.run_report import read_report
from ccnet.config import compose_config, to_yaml
from ccnet.errors import DataError
from tests.comparison.made_reports import CLASSES, FLAGS, made_images, write_report, write_run


def test_a_run_and_its_reports(tmp_path: Path) -> None:
    """Oracle: the folder that was asked for, and what was written there."""
    run = write_run(tmp_path / "run", 0.8)
    write_report(run / "report" / "step_1_val", made_images(0.9), {**FLAGS, "flip": True}, "abc")
    end = read_report(run)
    assert (end.path, end.checkpoint, end.class_names) == (run / "report", None, CLASSES)
    assert all(np.array_equal(one.counts, two.counts) for one, two in zip(end.images, made_images(0.8), strict=True))
    for found in (read_report(run, "step_1_val"), read_report(run / "report" / "step_1_val")):
        assert (found.path, found.checkpoint) == (run / "report" / "step_1_val", "abc")
        assert found.flags == {"_target_": f'"{FLAGS["_target_"]}"', "scales": "[1.0]", "flip": "true"}
        assert found.mean_iou > end.mean_iou


def test_a_missing_report(tmp_path: Path) -> None:
    """Oracle: the line that says what to run, or which reports are there."""
    with pytest.raises(DataError, match="gone: no such run or report folder"):
        read_report(tmp_path / "gone")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(DataError, match=r"report holds no metrics\.json; run: python tools/val\.py --checkpoint "):
        read_report(run)
    write_report(run / "report" / "step_1_val", made_images(0.8))
    with pytest.raises(DataError, match=r"but has step_1_val \(--report NAME\)"):
        read_report(run)
    (run / "report" / "metrics.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"report holds no images\.csv, but has step_1_val"):
        read_report(run)
    with pytest.raises(DataError, match=r"step_2_val holds no metrics\.json"):
        read_report(run, "step_2_val")
    with pytest.raises(DataError, match=r"step_2_val holds no metrics\.json"):  # a report folder has none below it
        read_report(run / "report" / "step_1_val", "step_2_val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"metrics\.json cannot be read"),
        ("[" * 100_000, r"metrics\.json cannot be read"),
        ("[1]", r"metrics\.json cannot be read"),
        ("null", r"metrics\.json cannot be read"),
        ('{"evaluation": [1]}', r"metrics\.json cannot be read"),
        ("{}", "are not of one evaluation"),
        ('{"mIoU": null}', "are not of one evaluation"),
        ('{"mIoU": NaN}', "are not of one evaluation"),
        (f'{{"mIoU": 1{"0" * 400}}}', "are not of one evaluation"),
        ('{"mIoU": "high"}', "are not of one evaluation"),
    ],
)
def test_damaged_metrics(text: str, message: str, tmp_path: Path) -> None:
    """Oracle: one line."""
    folder = write_report(tmp_path / "report", made_images(0.8))
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        read_report(folder)
    assert "\n" not in str(error.value)


def test_files_of_two_evaluations(tmp_path: Path) -> None:
    """Oracle: scores of other images, and a table that lost its last line, are not those of metrics.json."""
    folder = write_report(tmp_path / "report", made_images(0.8))
    table = folder / "images.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DataError, match="are not of one evaluation"):
        read_report(folder)
    table.write_bytes(b"".join(lines))
    assert read_report(folder).class_names == CLASSES


def test_a_report_without_a_score(tmp_path: Path) -> None:
    """Oracle: where nothing is valid, mIoU is null, and a number is of another evaluation."""
    nothing = [replace(image, counts=0 * image.counts) for image in made_images(0.8)]
    folder = write_report(tmp_path / "report", nothing)
    (folder / "metrics.json").write_text('{"mIoU": null}', encoding="utf-8")
    assert math.isnan(read_report(folder).mean_iou)
    (folder / "metrics.json").write_text('{"mIoU": 0.0}', encoding="utf-8")
    with pytest.raises(DataError, match="are not of one evaluation"):
        read_report(folder)


def test_a_report_that_does_not_say_how(tmp_path: Path) -> None:
    """Oracle: unknown flags and checkpoint; and the number of images at once, which no score depends on, is no flag."""
    found = read_report(write_report(tmp_path / "silent", made_images(0.8), flags=None))
    assert (found.flags, found.checkpoint) == (None, None)
    found = read_report(write_report(tmp_path / "batches", made_images(0.8), {"flip": True, "batch_size": 3}))
    assert found.flags == {"flip": "true"}


def test_any_depth_is_one_line(tmp_path: Path) -> None:
    """Oracle: flags as deep as Python can read are a report, deeper ones an error."""
    folder = write_report(tmp_path / "report", made_images(0.8))
    miou = json.loads((folder / "metrics.json").read_text())["mIoU"]
    for depth in range(900, 1000):
        nested = "[" * depth + "]" * depth
        text = f'{{"mIoU": {miou}, "evaluation": {{"flip": {nested}}}, "head": {nested}}}'
        (folder / "metrics.json").write_text(text, encoding="utf-8")
        with suppress(DataError):
            assert read_report(folder).flags == {"flip": nested}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Oracle: an error, where the system has links."""
    folder = write_report(tmp_path / "report", made_images(0.8))
    (folder / "images.csv").rename(tmp_path / "elsewhere.csv")
    try:
        (folder / "images.csv").symlink_to(tmp_path / "elsewhere.csv")
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(DataError, match=r"images\.csv cannot be read"):
        read_report(folder)


def test_the_run_of_a_report_is_found_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the run's seed, however the path to its report is written."""
    run = write_run(tmp_path / "run", 0.8, config=to_yaml(compose_config(overrides=["seed=5"])))
    for folder, path in ((run / "report", "."), (run, "report"), (run, "."), (run / "report", "..")):
        monkeypatch.chdir(folder)
        assert read_report(Path(path)).config().seed == 5


def test_a_report_outside_of_a_run_has_no_seed(tmp_path: Path) -> None:
    """Oracle: the error."""
    with pytest.raises(DataError, match=r"report lies in no run, whose config\.yaml would tell its seed"):
        read_report(write_report(tmp_path / "report", made_images(0.8))).config()
