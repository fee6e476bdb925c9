"""Scores on the terminal: of one evaluation, and of several side by side."""

import math
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ccnet.errors import printable
from ccnet.evaluation.bootstrap import Interval
from ccnet.evaluation.outcome import Outcome

WIDE = 100  # columns that all figures need; fewer leave precision, Dice and the count of pixels out
WITHOUT_TERMINAL = 100


def print_scores(outcome: Outcome) -> None:
    """A row per class, a line per region, a line of further means, then the summary as the last line."""
    scores = outcome.scores
    console = _console()
    console.print(score_table(outcome, console.width))
    for name, accuracy in scores.region_accuracy.items():
        print(f"aAcc {name} {_per_cent(accuracy)}")
    print(
        f"mIoU 95 % {_ends(outcome.intervals.mean_iou)} over {len(outcome.images)} images"
        f"  fwIoU {_per_cent(scores.frequency_weighted_iou)}"
        f"  mBIoU {_per_cent(scores.mean_boundary_iou)}  loss {_loss(scores.loss)}"
    )
    print(scores.summary())


def score_table(outcome: Outcome, width: int) -> Table:
    """A row per class, in per cent; below 100 columns without precision, Dice and pixels.

    Args:
        outcome: of the evaluation.
        width: columns of the terminal.
    """
    scores, wide = outcome.scores, width >= WIDE
    columns = {
        "IoU": map(_per_cent, scores.iou.tolist()),
        "95 %": map(_ends, outcome.intervals.iou),
        "accuracy": map(_per_cent, scores.accuracy.tolist()),
        **({"precision": map(_per_cent, scores.precision.tolist())} if wide else {}),
        **({"Dice": map(_per_cent, scores.dice.tolist())} if wide else {}),
        "boundary": map(_per_cent, scores.boundary_iou.tolist()),
        **({"pixels": (f"{pixels:,}" for pixels in scores.confusion.sum(dim=1).tolist())} if wide else {}),
    }
    table = _table("class", *columns)
    for name, *cells in zip(scores.class_names, *columns.values(), strict=True):
        table.add_row(Text(printable(name)), *cells)
    return table


def print_comparison(outcomes: Mapping[str, Outcome]) -> None:
    """A row for each of several evaluations, the best mIoU marked where all are of the same images and classes.

    Args:
        outcomes: by what was evaluated; at least one.
    """
    table = _table("", "mIoU", "95 %", "mAcc", "aAcc", "mBIoU", "loss")
    best = _best(outcomes)
    for name, outcome in outcomes.items():
        scores = outcome.scores
        shares = (scores.mean_accuracy, scores.pixel_accuracy, scores.mean_boundary_iou)
        table.add_row(
            Text(printable(f"{'*' if name == best else ' '} {name}")),
            _per_cent(scores.mean_iou),
            _ends(outcome.intervals.mean_iou),
            *map(_per_cent, shares),
            _loss(scores.loss),
            style="bold" if name == best else "",
        )
    _console().print(table)
    if not _are_comparable(outcomes.values()):
        print("not of the same images or classes: no best")


def _best(outcomes: Mapping[str, Outcome]) -> str | None:
    """Which has the highest mIoU; None where the data are not the same, or nothing has a score."""
    if not _are_comparable(outcomes.values()):
        return None
    scored = {name: outcome.scores.mean_iou for name, outcome in outcomes.items()}
    return max((name for name in scored if not math.isnan(scored[name])), key=scored.__getitem__, default=None)


def _are_comparable(outcomes: Iterable[Outcome]) -> bool:
    return len({(outcome.fingerprint, tuple(outcome.scores.class_names)) for outcome in outcomes}) == 1


def _console() -> Console:
    """As wide as the terminal, or wide enough for all where there is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WITHOUT_TERMINAL)


def _table(first: str, *columns: str) -> Table:
    """Names go over several lines where there is little room; numbers are never cut."""
    table = Table()
    table.add_column(first, overflow="fold")
    for column in columns:
        width = 11 if column == "95 %" else 5
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    return table


def _per_cent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _ends(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return "-"
    return f"{_per_cent(interval.low)}-{_per_cent(interval.high)}"


def _loss(loss: float) -> str:
    return "-" if math.isnan(loss) else f"{loss:.4f}"
