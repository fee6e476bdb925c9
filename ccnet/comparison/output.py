"""A comparison on the terminal, and as JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ccnet import json_file
from ccnet.comparison.compare import Comparison, Side
from ccnet.errors import printable
from ccnet.evaluation.bootstrap import LEVEL, Interval, Intervals

PERCENT = f"{100 * LEVEL:.0f} %"
LEGEND = "* distinguishable from zero, each class by itself: of 20 that do not differ, one is marked by chance"


def print_comparison(comparison: Comparison) -> None:
    """The reports, a row per class, what to know, and what was found as the last line; all in per cent."""
    console = Console(highlight=False)
    for letter, side in zip("AB", comparison.sides, strict=False):
        for line in _introduction(letter, side):
            console.print(Text(printable(line)), soft_wrap=True)
    console.print(_table(comparison))
    if comparison.difference:
        console.print(Text(LEGEND), soft_wrap=True)
    for warning in comparison.warnings:
        console.print(Text("warning: ", "yellow") + Text(printable(warning)), soft_wrap=True)
    print(summary(comparison))


def summary(comparison: Comparison) -> str:
    """The one line that says it."""
    method = f"{PERCENT} {comparison.method}"
    if comparison.difference is None:
        return f"mIoU {_spread(comparison.sides[0])} ({method})"
    found = comparison.difference.mean_iou
    if found.low is None:
        return f"mIoU B - A: {_points(found.value)}, no interval: {found.reason} ({method})"
    verdict = "distinguishable" if found.excludes_zero else "not distinguishable"
    return f"mIoU B - A: {_points(found.value)} {_range(found)}, {verdict} from zero ({method})"


def write_json(path: Path, comparison: Comparison) -> None:
    """Everything, scores in 0..1; the file is there whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    names = comparison.class_names
    plain: dict[str, Any] = {"method": comparison.method, "level": LEVEL, "warnings": list(comparison.warnings)}
    plain["images"] = len(comparison.sides[0].reports[0].images)
    for letter, side in zip("AB", comparison.sides, strict=False):
        plain[letter] = _side_dict(side, names)
    if comparison.difference:
        plain["difference"] = _scores_dict(comparison.difference, names)
        plain["distinguishable"] = comparison.difference.mean_iou.excludes_zero
    json_file.write(path, json.dumps(plain, indent=1))


def _side_dict(side: Side, class_names: Sequence[str]) -> dict[str, Any]:
    seeds: Sequence[int | None] = side.seeds or [None] * len(side.reports)
    runs = [
        {"report": str(report.path), "seed": seed, "checkpoint": report.checkpoint, "mIoU": _or_null(report.mean_iou)}
        for report, seed in zip(side.reports, seeds, strict=True)
    ]
    deviation = {} if not side.seeds else {"standard_deviation": side.deviation}
    return {"runs": runs, **deviation, **_scores_dict(side.scores, class_names)}


def _scores_dict(scores: Intervals, class_names: Sequence[str]) -> dict[str, Any]:
    classes = {name: interval.as_dict() for name, interval in zip(class_names, scores.iou, strict=True)}
    return {"mIoU": scores.mean_iou.as_dict(), "classes": classes}


def _introduction(letter: str, side: Side) -> list[str]:
    mean = side.scores.mean_iou
    if not side.seeds:
        return [f"{letter} {side.reports[0].path}: mIoU {_percent(mean.value)} {_range(mean)}"]
    runs = zip(side.reports, side.seeds, strict=True)
    lines = [f"{letter} {report.path}: seed {seed}, mIoU {_percent(report.mean_iou)}" for report, seed in runs]
    return [*lines, f"{letter} mIoU {_spread(side)}"]


def _table(comparison: Comparison) -> Table:
    two = comparison.difference is not None
    table = Table("class", *(["IoU A", "IoU B", "B - A", PERCENT, ""] if two else ["IoU", PERCENT]))
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    scores = [side.scores for side in comparison.sides] + ([comparison.difference] if comparison.difference else [])
    columns = [[*each.iou, each.mean_iou] for each in scores]
    for name, *sides, last in zip([*comparison.class_names, "mIoU"], *columns, strict=True):
        cells = [*(_percent(side.value) for side in sides), (_points if two else _percent)(last.value), _range(last)]
        if len(table.rows) == len(comparison.class_names):
            table.add_section()
        table.add_row(Text(printable(name)), *cells, *(["*" if last.excludes_zero else ""] if two else []))
    return table


def _spread(side: Side) -> str:
    mean, deviation = side.scores.mean_iou, math.nan if side.deviation is None else side.deviation
    return f"{_percent(mean.value)}, standard deviation {_percent(deviation)}, {_range(mean)}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def _range(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return interval.reason
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value
