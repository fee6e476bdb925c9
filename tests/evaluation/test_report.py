"""Scores as files and on the terminal, read back."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.evaluation import report
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import Picture

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
CONFUSION = torch.tensor([[1500, 500, 0], [0, 1000, 0], [0, 0, 0]])
SCORES = Scores(CONFUSION, ["road", "car, parked", "sky"])


def picture(name: str = "city/one") -> Picture:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Picture(name, image, np.full((4, 5), 255, np.uint8), rng.integers(0, 3, (4, 5), dtype=np.uint8))


def test_metrics_file_by_hand(tmp_path: Path) -> None:
    """Oracle: IoU 1500/2000 and 1000/1500, written out; a class without pixels is null; what was evaluated."""
    report.write_report(tmp_path / "new" / "report", SCORES, {"checkpoint": "step_1", "flip": True})
    metrics = json.loads((tmp_path / "new/report/metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["mIoU"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert metrics["mAcc"] == pytest.approx((3 / 4 + 1) / 2)
    assert metrics["aAcc"] == pytest.approx(5 / 6)
    assert metrics["classes"]["car, parked"] == pytest.approx({"IoU": 2 / 3, "accuracy": 1})
    assert metrics["classes"]["sky"] == {"IoU": None, "accuracy": None}
    assert (metrics["checkpoint"], metrics["flip"]) == ("step_1", True)


def test_metrics_file_is_json_even_without_any_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the JSON standard, which has no NaN; what reads the file prints a dash."""
    report.write_report(tmp_path / "report", Scores(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"]), {})
    metrics = json.loads((tmp_path / "report/metrics.json").read_text(), parse_constant=pytest.fail)
    assert [metrics[name] for name in ("mIoU", "mAcc", "aAcc")] == [None, None, None]
    report.print_finished(tmp_path)
    assert "mIoU -;" in capsys.readouterr().out


def test_confusion_table_is_read_back(tmp_path: Path) -> None:
    """Oracle: the matrix itself; names with a comma survive."""
    report.write_report(tmp_path, SCORES, {})
    with (tmp_path / "confusion_matrix.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [row[0] for row in rows] == list(SCORES.class_names)
    assert [[int(cell) for cell in row[1:]] for row in rows] == CONFUSION.tolist()


def test_confusion_picture_shows_the_shares(tmp_path: Path) -> None:
    """Oracle: cells on the diagonal from left to right, the more of the row the darker; an empty row is white."""
    report.write_report(tmp_path, SCORES, {})
    with Image.open(tmp_path / "confusion_matrix.png") as figure:
        pixels = np.asarray(figure.convert("RGB"))
    shades = [[int(pixels[150 + 44 * row + 3, 150 + 44 * column + 3, 0]) for column in range(3)] for row in range(3)]
    assert shades == [[63, 191, 255], [255, 0, 255], [255, 255, 255]]


def test_table_and_summary_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: one row per class with numbers worked out by hand; the summary is the last line."""
    report.print_scores(SCORES)
    *table, last = capsys.readouterr().out.strip().splitlines()
    assert last == "mIoU 70.8  mAcc 87.5  aAcc 83.3"
    rows = {name: next(line for line in table if name in line) for name in SCORES.class_names}
    assert all(cell in rows["road"] for cell in ("75.0", "2,000"))
    assert all(cell in rows["car, parked"] for cell in ("66.7", "100.0", "1,000"))
    assert "-" in rows["sky"]


def test_panel_shows_image_truth_and_prediction() -> None:
    """Oracle: three parts of the image's width: the image to the bit, ignored truth black, colours mixed in."""
    one = picture()
    panel = report.panel(one, PALETTE)
    assert panel.shape == (4, 3 * 5 + 2 * 4, 3)
    assert np.array_equal(panel[:, :5], one.image)
    assert (panel[:, 5:9] == 255).all()
    assert (panel[:, 9:14] == 0).all()
    colors = np.array(PALETTE)[one.prediction]
    assert np.abs(panel[:, 18:] - (0.4 * one.image + 0.6 * colors)).max() <= 0.5


def test_finish_and_what_is_said_about_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the files of the report, a picture per sample without folders in its name, and the score again."""
    report.finish(tmp_path, SCORES, [picture("city/one"), picture("two")], PALETTE, {"step": 4})
    assert {path.name for path in (tmp_path / "report/pictures").iterdir()} == {"city_one.png", "two.png"}
    assert json.loads((tmp_path / "report/metrics.json").read_text())["aAcc"] == pytest.approx(5 / 6)
    assert report.is_reported(tmp_path, {"step": 4})
    assert not report.is_reported(tmp_path, {"step": 8})  # the run has gone on since
    assert not report.is_reported(tmp_path / "elsewhere", {"step": 4})
    assert capsys.readouterr().out.strip().endswith("mIoU 70.8  mAcc 87.5  aAcc 83.3")
    report.print_finished(tmp_path)
    assert f"{tmp_path} is finished: mIoU 70.8" in capsys.readouterr().out


REGIONS = Scores(CONFUSION, SCORES.class_names, {"near": torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])})


def test_regions_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: 3 of 4 by hand, in the file and on a line of the terminal; none of it where there are no regions."""
    report.write_report(tmp_path, REGIONS, {})
    assert json.loads((tmp_path / "metrics.json").read_text())["regions"] == {"near": {"aAcc": 0.75}}
    report.print_scores(REGIONS)
    assert capsys.readouterr().out.splitlines()[-2:] == ["aAcc near 75.0", "mIoU 70.8  mAcc 87.5  aAcc 83.3"]
    assert "regions" not in report.scores_dict(SCORES)


def test_a_report_of_ones_own_replaces_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: it is called with folder and pictures when the files are there, and nothing else is printed."""

    def own(folder: Path, pictures: Sequence[Picture] = ()) -> None:
        assert (folder / "report/metrics.json").is_file()
        print(folder, len(pictures))

    report.finish(tmp_path, SCORES, [picture()], PALETTE, {}, own)
    assert capsys.readouterr().out == f"{tmp_path} 1\n"


def test_progress_passes_the_batches_through(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the batches themselves; nothing is printed where nobody watches."""
    assert list(report.track([1, 2, 3])) == [1, 2, 3]
    captured = capsys.readouterr()
    assert (captured.out.strip(), captured.err.strip()) == ("", "")
