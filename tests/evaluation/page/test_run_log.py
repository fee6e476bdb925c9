"""Curves from a run's log, whatever stands in it."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.evaluation.page.curves import draw_curves
from ccnet.evaluation.page.run_log import MOST_POINTS, MOST_TERMS, Series, loss_terms, read_run_log
from ccnet.training.rows import RowFile
from tests.evaluation.page.cases import Page


def test_a_log_as_training_writes_it(tmp_path: Path) -> None:
    """Oracle: the rows that training's own writer was given; what is no loss is none."""
    rows = RowFile(tmp_path / "metrics.jsonl")
    pace = {"images_per_second": 9.0, "data_wait": 0.1, "memory_gib": 1.5, "bad_steps": 1, "grad_norm": 3.0}
    rows.append(10, {"ohem": 1.5, "auxiliary": 0.5, "loss": 2.0, "lr": 0.1, **pace})
    rows.append(20, {"ohem": 1.0, "auxiliary": 0.25, "loss": 1.25, "lr": 0.2, **pace})
    rows.append(20, {"mIoU": 0.5, "mAcc": 0.6, "aAcc": 0.7, "IoU/road": 0.5, "val/loss": 0.75})
    assert read_run_log(rows.path) == {
        "ohem": Series([10, 20], [1.5, 1.0]),
        "auxiliary": Series([10, 20], [0.5, 0.25]),
        "loss": Series([10, 20], [2.0, 1.25]),
        "lr": Series([10, 20], [0.1, 0.2]),
        "mIoU": Series([20], [0.5]),
        "val/loss": Series([20], [0.75]),
    }


HOSTILE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"step"',
    b'{"step": 1.5, "lr": 1, "loss": 7}',
    b'{"step": true, "lr": 1, "loss": 7}',
    b'{"step": -1, "lr": 1, "loss": 7}',
    b'{"step": 1e999, "lr": 1, "loss": 7}',
    b'{"step": 99999999999999999999999, "lr": 1, "loss": 7}',
    b'{"step": 1, "lr": "<b>", "loss": NaN, "a": Infinity, "b": [1], "c": {"d": 1}, "e": true, "f": null, "g": "7"}',
    b'{"step": 1, "lr": 1e300, "loss": 1' + b"0" * 400 + b"}",
    b'{"step": 1, "lr": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b"\xff\xfe\x00",
    b'{"step": 1, "lo',
]


@pytest.mark.parametrize("line", HOSTILE)
def test_a_bad_line_is_left_out(line: bytes, tmp_path: Path) -> None:
    """Oracle: the good line after it, and nothing else."""
    good = json.dumps({"step": 5, "lr": 0.5, "loss": 2.0}).encode()
    (tmp_path / "log").write_bytes(line + b"\n" + good + b"\n" + line)
    assert read_run_log(tmp_path / "log") == {"loss": Series([5], [2.0]), "lr": Series([5], [0.5])}


NUMBERS = st.integers() | st.floats() | st.integers(0, 20)
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
KEYS = st.sampled_from(["step", "lr", "loss", "mIoU", "val/loss", "<x>"])


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.dictionaries(KEYS, NUMBERS | VALUES, max_size=6), max_size=8))
def test_any_log_can_be_drawn(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Oracle: steps in order and values that are numbers; a drawing that an HTML parser takes."""
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_run_log(path)
    for series in found.values():
        assert series.steps == sorted(set(series.steps))
        assert all(math.isfinite(value) for value in series.values)
    drawn = draw_curves(found, marked=3)
    assert "nan" not in drawn
    Page(drawn).require_self_contained()


def test_long_logs_are_thinned(tmp_path: Path) -> None:
    """Oracle: fewer than 1000 of 25,003 points, the first and the last among them, in order."""
    text = "".join(f'{{"step": {step}, "lr": 0.1, "loss": {step}.5}}\n' for step in range(25_003))
    (tmp_path / "log").write_text(text)
    loss = read_run_log(tmp_path / "log")["loss"]
    assert len(loss.steps) <= MOST_POINTS + 1 < 1000
    assert (loss.steps[0], loss.steps[-1]) == (0, 25_002)
    assert loss.steps == sorted(set(loss.steps))
    assert loss.values == [step + 0.5 for step in loss.steps]


def test_rows_out_of_order_and_twice(tmp_path: Path) -> None:
    """Oracle: the order of steps; of two rows of a step the later one, as the run went on from there."""
    rows = [
        {"step": 3, "lr": 0.1, "loss": 3.0},
        {"step": 1, "lr": 0.1, "loss": 9.0},
        {"step": 1, "lr": 0.1, "loss": 1.0},
    ]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, rows)))
    assert read_run_log(tmp_path / "log")["loss"] == Series([1, 3], [1.0, 3.0])


def test_no_log_or_none_that_is_a_file(tmp_path: Path) -> None:
    """Oracle: no curves; a pipe is not waited for."""
    assert read_run_log(tmp_path / "missing") == {}
    assert read_run_log(tmp_path) == {}
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert read_run_log(tmp_path / "pipe") == {}


def test_the_terms_that_are_drawn() -> None:
    """Oracle: the sum first unless it is the only term, few enough to be told apart."""
    one = Series([1], [1.0])
    assert list(loss_terms({"cross_entropy": one, "loss": one, "lr": one, "mIoU": one})) == ["cross_entropy"]
    assert list(loss_terms({"a": one, "b": one, "loss": one, "val/loss": one})) == ["loss", "a", "b", "val/loss"]
    many = {f"term{index}": one for index in range(50)} | {"loss": one, "val/loss": one}
    assert len(loss_terms(many)) == MOST_TERMS
    assert loss_terms({"loss": one}) == {"loss": one}
    assert Page(draw_curves(many, None)).words("h3") == ["Loss "]
