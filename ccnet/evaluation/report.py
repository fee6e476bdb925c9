"""Scores as a table on the terminal and as files."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import rich.progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import Picture
from ccnet.visualize import Palette, Rgb, colorize, confusion_figure, overlay, save_png, side_by_side


class Report(Protocol):
    """Ends a run in place of the table of scores."""

    def __call__(self, folder: Path, pictures: Sequence[Picture] = ()) -> None:
        """Tells what the run's files say.

        Args:
            folder: of the run, `report/metrics.json` written.
            pictures: of the last evaluation; none where the run was finished before, and is asked again.
        """
        ...


def print_scores(scores: Scores) -> None:
    """A row per class, a line per region, then the summary as the last line."""
    table = Table("class", "IoU", "accuracy", "pixels")
    for column in table.columns[1:]:
        column.justify = "right"
    pixels = scores.confusion.sum(dim=1).tolist()
    rows = zip(scores.class_names, scores.iou.tolist(), scores.accuracy.tolist(), pixels, strict=True)
    for name, iou, accuracy, count in rows:
        table.add_row(Text(name), _per_cent(iou), _per_cent(accuracy), f"{count:,}")
    Console(highlight=False).print(table)
    for name, accuracy in scores.region_accuracy.items():
        print(f"aAcc {name} {_per_cent(accuracy)}")
    print(scores.summary())


def scores_dict(scores: Scores) -> dict[str, Any]:
    """Everything in 0..1; a class without score is null, regions are there where the data set names some."""
    per_class = zip(scores.class_names, scores.iou.tolist(), scores.accuracy.tolist(), strict=True)
    regions = {name: {"aAcc": _or_null(accuracy)} for name, accuracy in scores.region_accuracy.items()}
    return {
        "mIoU": _or_null(scores.mean_iou),
        "mAcc": _or_null(scores.mean_accuracy),
        "aAcc": _or_null(scores.pixel_accuracy),
        "loss": _or_null(scores.loss),
        "classes": {name: {"IoU": _or_null(iou), "accuracy": _or_null(acc)} for name, iou, acc in per_class},
        **({"regions": regions} if regions else {}),
    }


def write_report(folder: Path, scores: Scores, about: Mapping[str, Any]) -> None:
    """metrics.json, confusion_matrix.csv and confusion_matrix.png.

    Args:
        folder: made where missing.
        scores: what to report.
        about: plain values that say what was evaluated, and how.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *scores.class_names])
        for name, row in zip(scores.class_names, scores.confusion.tolist(), strict=True):
            writer.writerow([name, *row])
    confusion_figure(scores.confusion.numpy(), scores.class_names).save(folder / "confusion_matrix.png")
    # Last and in one piece: where it is, all is there.
    aside = folder / ".metrics.json.part"
    aside.write_text(json.dumps({**scores_dict(scores), **about}, indent=1), encoding="utf-8")
    aside.replace(folder / "metrics.json")


def track(batches: Iterable[Any]) -> Iterable[Any]:
    """Batches behind a progress bar, where somebody watches."""
    console = Console(stderr=True)
    return rich.progress.track(batches, "Evaluating", console=console, disable=not console.is_terminal)


def finish(
    folder: Path,
    scores: Scores,
    pictures: Sequence[Picture],
    palette: Palette,
    about: Mapping[str, Any],
    report: Report | None = None,
) -> None:
    """The end of a training run: report and pictures of its last evaluation; then its own `report`, or the table.

    Args:
        folder: of the run.
        scores, pictures, palette: what to report.
        about: plain values that tell this end of the run from another.
        report: of the run's own kind.
    """
    write_pictures(folder / "report" / "pictures", pictures, palette)
    write_report(folder / "report", scores, about)
    if report is not None:
        report(folder, pictures)
        return
    print(f"report and pictures in {folder / 'report'}, checkpoints in {folder / 'checkpoints'}")
    print_scores(scores)


def is_reported(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether `finish` was reached with these values; a longer run has to reach it anew."""
    try:
        metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(metrics, dict) and {name: metrics.get(name) for name in about} == dict(about)


def print_finished(folder: Path) -> None:
    """What there is to say about a run that has reached its last step already."""
    metrics = json.loads((folder / "report" / "metrics.json").read_text(encoding="utf-8"))
    print(f"{folder} is finished: mIoU {_per_cent(metrics['mIoU'])}; give a new run a name=... of its own")


def write_pictures(folder: Path, pictures: Sequence[Picture], palette: Palette) -> None:
    """Input, truth and prediction side by side, one PNG a sample."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        save_png(folder / f"{picture.name.replace('/', '_')}.png", panel(picture, palette))


def panel(picture: Picture, palette: Palette) -> Rgb:
    """Input, truth and prediction side by side (H, 3 W, 3)."""
    truth, prediction = colorize(picture.mask, palette), overlay(picture.image, picture.prediction, palette)
    return side_by_side([picture.image, truth, prediction])


def _per_cent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
