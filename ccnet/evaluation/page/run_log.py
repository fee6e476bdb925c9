"""The curves of a run, from its metrics.jsonl: a file that a crash may have cut, and a stranger may have written."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccnet.sealed_folder import read_plain_file

MOST_BYTES = 1 << 28
MOST_POINTS = 900
MOST_TERMS = 6
MOST_STEPS = 1 << 53
NO_LOSSES = {"step", "lr", "grad_norm", "images_per_second", "data_wait", "memory_gib", "bad_steps"}


@dataclass
class Series:
    """Values at steps, both in the order of steps."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def read_run_log(path: Path) -> dict[str, Series]:
    """Series by name: the loss terms of training and `loss`, their sum; `lr`, `val/loss` and `mIoU`.

    Lines that are no rows and values that are no numbers are left out; of long series every n-th point is kept, and the
    last one. No series where there is no file, or one that is not plain or beyond all measure.
    """
    try:
        lines = read_plain_file(path, MOST_BYTES).split(b"\n")
    except OSError:
        return {}
    rows: dict[tuple[int, bool], dict[str, Any]] = {}
    for row in _rows(lines):
        rows[row["step"], "lr" in row] = row
    found: dict[str, Series] = {}
    for (step, is_training), row in sorted(rows.items(), key=lambda item: item[0]):
        for name, value in row.items():
            if _is_number(value) and (name not in NO_LOSSES if is_training else name in ("mIoU", "val/loss")):
                _append(found, name, step, value)
        if is_training and _is_number(row["lr"]):
            _append(found, "lr", step, row["lr"])
    return {name: _thinned(series) for name, series in found.items()}


def loss_terms(series: dict[str, Series]) -> dict[str, Series]:
    """Those of training, their sum first where it is a sum of several; then that of the validation split."""
    terms = {name: each for name, each in series.items() if name not in ("loss", "lr", "mIoU", "val/loss")}
    total = {"loss": series["loss"]} if "loss" in series and len(terms) != 1 else {}
    validation = {"val/loss": series["val/loss"]} if "val/loss" in series else {}
    room = MOST_TERMS - len(total) - len(validation)
    return {**total, **dict(list(terms.items())[:room]), **validation}


def _rows(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("step")) is int and 0 <= row["step"] <= MOST_STEPS:
            yield row


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12  # neither NaN nor infinity is


def _append(found: dict[str, Series], name: str, step: int, value: float) -> None:
    series = found.setdefault(name, Series())
    series.steps.append(step)
    series.values.append(float(value))


def _thinned(series: Series) -> Series:
    stride = -(-len(series.steps) // MOST_POINTS)
    if stride == 1:
        return series
    kept = [*range(0, len(series.steps) - 1, stride), len(series.steps) - 1]
    return Series([series.steps[index] for index in kept], [series.values[index] for index in kept])
