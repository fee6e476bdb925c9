"""What an evaluation leaves in its folder, and what the end of a run says."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import rich.progress
from rich.console import Console

from ccnet.evaluation.confusion_figure import confusion_figure
from ccnet.evaluation.images_csv import write_images
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.metrics_json import metrics_dict, plain
from ccnet.evaluation.outcome import Outcome, Picture
from ccnet.evaluation.output_folder import writing_into
from ccnet.evaluation.page.document import render
from ccnet.evaluation.page.run_log import read_run_log
from ccnet.evaluation.score_table import print_scores
from ccnet.sealed_folder import ASIDE, read_plain_file, write_file
from ccnet.visualize import Palette, Rgb, colorize, error_map, overlay, save_png, side_by_side

METRICS, PAGE = "metrics.json", "report.html"
SOFTWARE = "ccnet report"  # what its pictures say about themselves, so that a later report may delete them
LONGEST_NAME = 50  # letters of a picture's file name


class Report(Protocol):
    """Ends a run in place of the table of scores."""

    def __call__(self, folder: Path, pictures: Sequence[Picture] = ()) -> None:
        """Tells what the run's files say.

        Args:
            folder: of the run, `report/metrics.json` written.
            pictures: of the last evaluation; none where the run was finished before, and is asked again.
        """
        ...


def write_report(
    folder: Path, outcome: Outcome, palette: Palette, about: Mapping[str, Any], log: Path | None = None
) -> None:
    """Writes report.html, images.csv, confusion_matrix.csv and .png, pictures/ and worst/, and metrics.json last: where
    that is, all is there. Each file is there whole or as it was; pictures of an earlier report go.

    Args:
        folder: made where missing.
        outcome: what to report.
        palette: colours of the classes.
        about: plain values that say what was evaluated, and how; they are part of metrics.json.
        log: metrics.jsonl of the run, for its curves; it need not be there.

    Raises:
        UserError: a file cannot be written, or the folder or one of its own is a link.
    """
    scores, about = outcome.scores, plain(about)
    metrics = metrics_dict(outcome)
    page = render(metrics, about, outcome, palette, read_run_log(log) if log else {})
    with writing_into(folder):
        for left in folder.glob(f"*{ASIDE}"):  # by a process that was killed while it wrote a report here
            left.unlink()
        _write_pictures(folder, outcome, palette)
        write_images(folder / "images.csv", outcome.images, scores.class_names)
        _write(folder / "confusion_matrix.csv", _confusion_csv(scores))
        save_png(folder / "confusion_matrix.png", confusion_figure(scores.confusion.numpy(), scores.class_names))
        _write(folder / PAGE, page)
        _write(folder / METRICS, json.dumps({**metrics, **about}, indent=1, allow_nan=False))


def track(batches: Iterable[Any]) -> Iterable[Any]:
    """Batches behind a progress bar, where somebody watches."""
    console = Console(stderr=True)
    return rich.progress.track(batches, "Evaluating", console=console, disable=not console.is_terminal)


def finish(
    folder: Path, outcome: Outcome, palette: Palette, about: Mapping[str, Any], report: Report | None = None
) -> None:
    """The end of a training run: the report of its last evaluation; then its own `report`, or the table.

    Args:
        folder: of the run.
        outcome, palette: what to report.
        about: plain values that tell this end of the run from another.
        report: of the run's own kind.

    Raises:
        UserError: a file cannot be written.
    """
    write_report(folder / "report", outcome, palette, about, folder / "metrics.jsonl")
    if report is not None:
        report(folder, outcome.pictures)
        return
    print(f"report in {folder / 'report' / PAGE}, checkpoints in {folder / 'checkpoints'}")
    print_scores(outcome)


def is_reported(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether `finish` was reached with these values; a longer run has to reach it anew."""
    metrics = _read_metrics(folder)
    return metrics is not None and {name: metrics.get(name) for name in about} == dict(about)


def print_finished(folder: Path) -> None:
    """What there is to say about a run that has reached its last step already."""
    miou = (_read_metrics(folder) or {}).get("mIoU")
    told = f"{100 * miou:.1f}" if isinstance(miou, int | float) else "-"
    print(f"{folder} is finished: mIoU {told}; give a new run a name=... of its own")


def panel(picture: Picture, palette: Palette) -> Rgb:
    """Input, truth and prediction side by side (H, 3 W, 3)."""
    truth, prediction = colorize(picture.mask, palette), overlay(picture.image, picture.prediction, palette)
    return side_by_side([picture.image, truth, prediction])


def error_panel(picture: Picture, palette: Palette) -> Rgb:
    """Input, truth, prediction and error side by side (H, 4 W, 3)."""
    truth, prediction = colorize(picture.mask, palette), colorize(picture.prediction, palette)
    errors = error_map(picture.image, picture.mask, picture.prediction)
    return side_by_side([picture.image, truth, prediction, errors])


def _read_metrics(folder: Path) -> dict[str, Any] | None:
    try:
        metrics = json.loads(read_plain_file(folder / "report" / METRICS))
    except (OSError, ValueError, RecursionError):
        return None
    return metrics if isinstance(metrics, dict) else None


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode(errors="replace"))  # a file's name need not be Unicode


def _confusion_csv(scores: Scores) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["true \\ predicted", *scores.class_names])
    writer.writerows([name, *row] for name, row in zip(scores.class_names, scores.confusion.tolist(), strict=True))
    return text.getvalue()


def _write_pictures(folder: Path, outcome: Outcome, palette: Palette) -> None:
    """pictures/ and worst/; what an earlier report left there goes."""
    for name, pictures, draw in (("pictures", outcome.pictures, panel), ("worst", outcome.worst, error_panel)):
        with writing_into(folder / name):
            _fill(folder / name, pictures, palette, draw)


def _fill(folder: Path, pictures: Sequence[Picture], palette: Palette, draw: Callable[[Picture, Palette], Rgb]) -> None:
    named = {f"{number:02}_{_file_name(picture)}": picture for number, picture in enumerate(pictures, start=1)}
    for name, picture in named.items():
        save_png(folder / name, draw(picture, palette), software=SOFTWARE)
    for path in folder.glob("*.png"):
        if path.name not in named and _is_own(path):
            path.unlink()


def _is_own(path: Path) -> bool:
    try:
        return f"tEXtSoftware\0{SOFTWARE}".encode() in read_plain_file(path)[:200]
    except OSError:
        return False


def _file_name(picture: Picture) -> str:
    return re.sub(r"[^\w.,+=-]", "_", picture.name)[-LONGEST_NAME:] + ".png"
