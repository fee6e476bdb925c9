"""What an evaluation leaves in its folder, read back."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.errors import UserError
from ccnet.evaluation import outcome, report
from ccnet.evaluation.bootstrap import Intervals, intervals
from ccnet.evaluation.images_csv import read_images
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import ImageScores, Outcome, Picture
from ccnet.evaluation.score_table import print_comparison, print_scores
from ccnet.visualize import ERROR_COLOR, save_png
from tests.evaluation.links import link, link_to
from tests.evaluation.page.cases import NAMES, Page, make_outcome, palette

PALETTE = palette(3)
CONFUSION = torch.tensor([[1500, 500, 0], [0, 1000, 0], [0, 0, 0]])
BOUNDARY = torch.tensor([[1, 1, 0], [2, 4, 0], [2, 1, 0]])
OUTCOME = replace(make_outcome(), scores=Scores(CONFUSION, NAMES, loss=0.5, boundary=BOUNDARY))
FILES = {"metrics.json", "report.html", "images.csv", "confusion_matrix.csv", "confusion_matrix.png"}


def written(folder: Path, outcome: Outcome = OUTCOME, about: dict[str, Any] | None = None) -> dict[str, Any]:
    """metrics.json of a report; no number that JSON does not know."""
    report.write_report(folder, outcome, PALETTE, about or {})
    return json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_metrics_by_hand(tmp_path: Path) -> None:
    """Oracle: shares of 1500, 500 and 1000 pixels, written out; a class without pixels is null; what was evaluated."""
    metrics = written(tmp_path / "new" / "report", about={"checkpoint": "step_1", "flip": True})
    means = [metrics[name] for name in ("mIoU", "mAcc", "aAcc", "fwIoU", "mPrecision", "mDice", "mBIoU", "loss")]
    expected = [17 / 24, 7 / 8, 5 / 6, 13 / 18, 5 / 6, (6 / 7 + 4 / 5) / 2, (1 / 3 + 1 / 4) / 2, 0.5]
    assert means == pytest.approx(expected)
    car = dict(metrics["classes"]["car, parked"])
    ends = car.pop("IoU_interval")
    assert car == pytest.approx(
        {
            "IoU": 2 / 3,
            "accuracy": 1,
            "recall": 1,
            "precision": 2 / 3,
            "Dice": 0.8,
            "boundary_IoU": 1 / 4,
            "pixels": 1000,
        }
    )
    found = intervals(OUTCOME.images)
    assert ends == [found.iou[1].low, found.iou[1].high]
    assert metrics["mIoU_interval"] == [found.mean_iou.low, found.mean_iou.high]
    nothing = ("IoU", "accuracy", "recall", "precision", "Dice", "boundary_IoU", "IoU_interval")
    assert metrics["classes"]["sky"] == {**dict.fromkeys(nothing), "pixels": 0}
    assert (metrics["checkpoint"], metrics["flip"]) == ("step_1", True)
    assert (metrics["images"], metrics["fingerprint"]) == (5, OUTCOME.fingerprint)


def test_metrics_are_json_even_without_any_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the JSON standard, which has no NaN; what reads the file prints a dash."""
    nothing = Outcome(Scores(torch.zeros(3, 3, dtype=torch.int64), NAMES), [])
    metrics = written(tmp_path / "report", nothing, {"lr": math.inf, "deep": {"list": [math.nan, (1.0, -math.inf)]}})
    assert [metrics[name] for name in ("mIoU", "mAcc", "aAcc", "mIoU_interval", "loss")] == [None] * 5
    assert (metrics["lr"], metrics["deep"]) == (None, {"list": [None, [1.0, None]]})
    report.print_finished(tmp_path)
    assert "mIoU -;" in capsys.readouterr().out


def test_every_file_is_there_and_read_back(tmp_path: Path) -> None:
    """Oracle: the outcome itself: matrix, images and pictures, whatever their names; the page is one of its kind."""
    written(tmp_path, about={"checkpoint": "step_1"})
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"pictures", "worst"}
    with (tmp_path / "confusion_matrix.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [row[0] for row in rows] == list(NAMES)
    assert [[int(cell) for cell in row[1:]] for row in rows] == CONFUSION.tolist()
    images, names = read_images(tmp_path / "images.csv")
    assert names == list(NAMES)
    assert [image.name for image in images] == [image.name for image in OUTCOME.images]
    with Image.open(tmp_path / "confusion_matrix.png") as figure:
        assert figure.size[0] > 200
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    page.require_self_contained()
    assert "step_1" in page.words("h1")


def test_the_worst_images_by_rank(tmp_path: Path) -> None:
    """Oracle: input to the bit, truth and prediction in the palette, the error where they differ; black is ignored."""
    written(tmp_path)
    names = sorted(path.name for path in (tmp_path / "worst").iterdir())
    assert names == [
        f"{rank:02}_{worst.name.replace('/', '_')}.png" for rank, worst in enumerate(OUTCOME.worst, start=1)
    ]
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"01_city_image0.png", "02_city_image1.png"}
    worst, width = OUTCOME.worst[0], OUTCOME.worst[0].mask.shape[1]
    with Image.open(tmp_path / "worst" / names[0]) as picture:
        parts = [np.asarray(picture)[:, start : start + width] for start in range(0, 4 * (width + 4), width + 4)]
    valid = worst.mask != 255
    assert np.array_equal(parts[0], worst.image)
    assert np.array_equal(parts[1][valid], np.array(PALETTE)[worst.mask[valid]])
    assert np.array_equal(parts[2], np.array(PALETTE)[worst.prediction])
    assert np.array_equal((parts[3] == ERROR_COLOR).all(axis=2), valid & (worst.mask != worst.prediction))
    assert (parts[1][~valid] == 0).all() and (parts[3][~valid] == 0).all()  # noqa: PT018


def test_panel_shows_image_truth_and_prediction() -> None:
    """Oracle: three parts of the image's width: the image to the bit, ignored truth black, colours mixed in."""
    one = OUTCOME.pictures[0]
    panel = report.panel(one, PALETTE)
    assert panel.shape == (12, 3 * 20 + 2 * 4, 3)
    assert np.array_equal(panel[:, :20], one.image)
    assert (panel[:, 20:24] == 255).all()
    assert (panel[0, 24:44] == 0).all()
    colors = np.array(PALETTE)[one.prediction]
    assert np.abs(panel[:, 48:] - (0.4 * one.image + 0.6 * colors)).max() <= 0.5


def test_a_later_report_leaves_nothing_stale_and_takes_nothing_foreign(tmp_path: Path) -> None:
    """Oracle: the files of the later report alone, and those that others put there, byte by byte."""
    written(tmp_path / "once", replace(OUTCOME, pictures=OUTCOME.pictures[1:], worst=OUTCOME.worst[1:2]))
    alone = files_of(tmp_path / "once")
    written(tmp_path / "twice")
    foreign = {"worst/mine.png": b"no picture", "worst/notes.txt": b"mine", "step_1_val/worst/01_x.png": b"another's"}
    for name, data in foreign.items():
        (tmp_path / "twice" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "twice" / name).write_bytes(data)
    save_png(tmp_path / "twice" / "pictures" / "drawn.png", np.zeros((2, 2, 3), np.uint8))
    foreign["pictures/drawn.png"] = (tmp_path / "twice/pictures/drawn.png").read_bytes()
    written(tmp_path / "twice", replace(OUTCOME, pictures=OUTCOME.pictures[1:], worst=OUTCOME.worst[1:2]))
    foreign = {str(Path(name)): data for name, data in foreign.items()}
    assert files_of(tmp_path / "twice") == {**alone, **foreign}


def test_a_report_is_the_same_every_time(tmp_path: Path) -> None:
    """Oracle: the bytes of all files; nothing is left beside them."""
    for name in ("a", "b"):
        written(tmp_path / name, about={"step": 1})
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert not list((tmp_path / "a").rglob(".*"))


@pytest.mark.parametrize("file", ["images.csv", "confusion_matrix.png", "report.html", "worst"])
def test_metrics_come_last(file: str, tmp_path: Path) -> None:
    """Oracle: where any other file cannot be written there are no metrics, and a line says why."""
    blocked = tmp_path / "report" / file
    if file == "worst":
        blocked.parent.mkdir()
        blocked.write_text("a file in the place of a folder")
    else:
        (blocked / "a folder in its place").mkdir(parents=True)
    with pytest.raises(UserError, match=r"report\S* cannot be written \(.*\); free some space"):
        written(tmp_path / "report")
    assert not (tmp_path / "report" / "metrics.json").exists()


def test_long_and_odd_names_are_files(tmp_path: Path) -> None:
    """Oracle: a file for each, within its folder and within what file systems take."""
    names = [
        "a/" * 120 + "end",
        "../../up",
        'c:\\x"<|>*?.',
        "\u202e\n\0",
        "日" * 200,
        "",
        "..",
        "same/name",
        "same_name",
    ]
    pictures = [replace(OUTCOME.pictures[0], name=name) for name in names]
    images = [replace(OUTCOME.images[0], name=name) for name in names]
    written(tmp_path / "report", Outcome(OUTCOME.scores, images, pictures, pictures))
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    for folder in ("pictures", "worst"):
        found = sorted(path.name for path in (tmp_path / "report" / folder).iterdir())
        assert [name[:3] for name in found] == [f"{rank:02}_" for rank in range(1, 10)]
        assert all(len(name.encode()) <= 160 for name in found)
        assert found[0].endswith("a_a_end.png")


@pytest.mark.parametrize("inside", ["", "pictures", "worst"])
def test_a_strangers_links_are_not_written_through(inside: str, tmp_path: Path) -> None:
    """Oracle: the bytes of the file to which links of every name that is written lead; files take the links' place."""
    (tmp_path / "precious").write_bytes(b"mine")
    written(tmp_path / "once")
    folder = tmp_path / "report" / inside
    folder.mkdir(parents=True)
    names = [path.name for path in (tmp_path / "once" / inside).iterdir() if path.is_file()]
    for name in names:
        link_to(folder / name, tmp_path / "precious")
        link_to(folder / f".{name}.part", tmp_path / "precious")
    written(tmp_path / "report")
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert files_of(tmp_path / "report").items() >= files_of(tmp_path / "once").items()
    assert not any((folder / name).is_symlink() for name in names)


@pytest.mark.parametrize("name", ["", "pictures", "worst"])
def test_a_folder_that_is_a_link_is_refused(name: str, tmp_path: Path) -> None:
    """Oracle: a line that names it, and nothing where it leads."""
    if name:
        (tmp_path / "report").mkdir()
    link(tmp_path / "report" / name, tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"{name or 'report'} is a link; what is written there would go elsewhere"):
        written(tmp_path / "report")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_bootstrap_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the number of its calls, over the report, the table and a comparison."""
    calls = []

    def counted(images: Sequence[ImageScores]) -> Intervals:
        calls.append(len(images))
        return intervals(images)

    monkeypatch.setattr(outcome, "intervals", counted)
    fresh = make_outcome()
    report.write_report(tmp_path, fresh, PALETTE, {})
    print_scores(fresh)
    print_comparison({"a": fresh, "b": fresh})
    assert calls == [5]


def test_finish_and_what_is_said_about_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the files of the report, curves of the run's own log on the page, and the score again."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "lr": 0.1, "ohem": 2.0, "loss": 2.0}\n')
    report.finish(tmp_path, OUTCOME, PALETTE, {"step": 4})
    assert {path.name for path in (tmp_path / "report").iterdir()} >= FILES
    page = Page((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "step 4: ohem 2" in page.words("title")
    assert report.is_reported(tmp_path, {"step": 4})
    assert not report.is_reported(tmp_path, {"step": 8})  # the run has gone on since
    assert not report.is_reported(tmp_path / "elsewhere", {"step": 4})
    out = capsys.readouterr().out
    assert str(Path("report", "report.html")) in out.splitlines()[0]
    assert out.endswith("\nmIoU 70.8  mAcc 87.5  aAcc 83.3\n")
    report.print_finished(tmp_path)
    assert f"{tmp_path} is finished: mIoU 70.8" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", '{"mIoU": "high"}', '{"mIoU": [1]}', "{}", "[" * 100_000, '{"mIoU": null}']
)
def test_metrics_of_another_kind(text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the run counts as not reported, and has no score to tell."""
    (tmp_path / "report").mkdir()
    if text is not None:
        (tmp_path / "report" / "metrics.json").write_text(text)
    assert not report.is_reported(tmp_path, {"step": 4})
    report.print_finished(tmp_path)
    assert "is finished: mIoU -; give" in capsys.readouterr().out


def test_regions_are_reported(tmp_path: Path) -> None:
    """Oracle: 3 of 4 by hand; none of it where there are no regions."""
    regions = {"near": torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), "far": torch.zeros(3, 3)}
    metrics = written(tmp_path / "with", replace(OUTCOME, scores=replace(OUTCOME.scores, regions=regions)))
    assert metrics["regions"] == {"near": {"aAcc": 0.75}, "far": {"aAcc": None}}
    assert "regions" not in written(tmp_path / "without")


def test_a_report_of_ones_own_replaces_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: it is called with folder and pictures when the files are there, and nothing else is printed."""

    def own(folder: Path, pictures: Sequence[Picture] = ()) -> None:
        assert (folder / "report/metrics.json").is_file()
        print(folder, len(pictures))

    report.finish(tmp_path, OUTCOME, PALETTE, {}, own)
    assert capsys.readouterr().out == f"{tmp_path} 2\n"


def test_progress_passes_the_batches_through(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the batches themselves; nothing is printed where nobody watches."""
    assert list(report.track([1, 2, 3])) == [1, 2, 3]
    captured = capsys.readouterr()
    assert (captured.out.strip(), captured.err.strip()) == ("", "")
