"""What a run leaves behind to read."""

import json
import math
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccnet.errors import CheckpointError
from ccnet.training.log import RunLog
from ccnet.training.rows import RowFile
from ccnet.training.trainer import StepResult


def result(step: int, skipped: bool = False) -> StepResult:
    ohem = math.nan if skipped else float(step)
    losses = {"ohem": torch.tensor(ohem), "auxiliary": torch.tensor(0.5)}
    return StepResult(step, losses, torch.tensor(2.0), 0.1, 4, skipped)


def run_log(folder: Path, max_steps: int, start_step: int = 0, log_every: int = 1, evaluate_every: int = 100) -> RunLog:
    cpu = torch.device("cpu")
    return RunLog(folder, max_steps, start_step, log_every, evaluate_every=evaluate_every, device=cpu)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rows_are_means_over_their_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: means by hand; where no terminal watches, a plain line an interval."""
    with run_log(tmp_path, 5, log_every=2) as log:
        for step in range(1, 6):
            log(result(step))
        log.scores(5, {"mIoU": 0.5, "loss": 0.75, "IoU/road": 0.25})
    table = rows(tmp_path)
    assert [row["step"] for row in table] == [2, 4, 5, 5]
    assert [row["ohem"] for row in table[:3]] == [1.5, 3.5, 5.0]
    assert [row["loss"] for row in table[:3]] == [2.0, 4.0, 5.5]
    assert (table[0]["grad_norm"], table[0]["lr"]) == (2.0, 0.1)
    assert table[0]["images_per_second"] > 0
    assert 0 <= table[0]["data_wait"] <= 1
    assert table[3] == {"step": 5, "mIoU": 0.5, "val/loss": 0.75, "IoU/road": 0.25}
    printed = capsys.readouterr().err
    assert "step 2/5  loss 2.000 (ohem 1.500, auxiliary 0.500)  grad 2.00  lr 1.00e-01  " in printed
    assert "data 0%" in printed
    assert "ETA >0:00:00\n" in printed
    assert "step 5: mIoU 0.5  loss 0.75\n" in printed


def test_a_skipped_step_is_counted_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: means over the other steps; an interval without any has no losses, and no row has a NaN."""
    with run_log(tmp_path, 6, log_every=2) as log:
        for step in range(1, 7):
            log(result(step, skipped=step in (2, 3, 4)))
    table = rows(tmp_path)
    assert [row.get("bad_steps") for row in table] == [1, 2, None]
    assert [row.get("ohem") for row in table] == [1.0, None, 5.5]
    assert [row.get("grad_norm") for row in table] == [2.0, None, 2.0]
    assert table[1]["lr"] == 0.1
    assert "step 4/6  lr 1.00e-01" in capsys.readouterr().err


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    """Oracle: the gradient that fp16 overflows, in a step whose loss is finite: the losses stay."""
    overflowed = StepResult(1, {"ohem": torch.tensor(1.0)}, torch.tensor(math.inf), 0.1, 4)
    with run_log(tmp_path, 1) as log:
        log(overflowed)
        log.scores(1, {"mIoU": math.nan, "aAcc": 0.5})
    assert "grad_norm" not in rows(tmp_path)[0]
    assert rows(tmp_path)[0]["loss"] == 1.0
    assert rows(tmp_path)[1] == {"step": 1, "aAcc": 0.5}


def test_tensorboard_reads_the_same(tmp_path: Path) -> None:
    """Oracle: TensorBoard's own reader."""
    with run_log(tmp_path, 2) as log:
        log.text("config", "seed: 0")
        log.hparams({"optimizer.lr": 0.1, "head": "rcca", "flip": True}, ["val/mIoU"])
        for step in (1, 2):
            log(result(step))
        log.picture(2, "val/x", torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
        log.scores(2, {"mIoU": 0.5, "loss": 0.75, "IoU/road": 0.25})
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 1.5), (2, 2.5)]
    assert {tag: board.Scalars(tag)[0].value for tag in ("val/mIoU", "val/loss", "IoU/road")} == {
        "val/mIoU": 0.5, "val/loss": 0.75, "IoU/road": 0.25,
    }  # fmt: skip
    assert board.Images("val/x")[0].width == 6
    assert board.Tensors("config/text_summary")[0].tensor_proto.string_val == [b"    seed: 0"]
    assert [path.name for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()] == []
    plugin = board.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert (plugin.plugin_name, b"optimizer.lr" in plugin.content, b"rcca" in plugin.content) == ("hparams", True, True)


def test_a_row_is_the_last_that_is_written(tmp_path: Path) -> None:
    """Oracle: the recorded calls: where a row stands, TensorBoard's events are out of the process."""
    calls = Mock()
    with patch("ccnet.training.log.Board", calls.Board), patch.object(RowFile, "append", calls.append):
        log = run_log(tmp_path, 1)
        for tell in (lambda: log(result(1)), lambda: log.scores(1, {"mIoU": 0.5})):
            calls.reset_mock()
            tell()
            assert [call[0] for call in calls.mock_calls] == ["Board().scalars", "Board().flush", "append"]


def test_files_are_complete_after_an_exception(tmp_path: Path) -> None:
    """Oracle: the exception itself, and a picture that no row had flushed."""

    def fail() -> None:
        with run_log(tmp_path, 9) as log:
            log.picture(1, "val/x", torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    assert EventAccumulator(str(tmp_path / "tensorboard")).Reload().Images("val/x")


def test_a_checkpoint_does_not_run_ahead_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a recorded fsync of the rows before the state is handed over."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    with run_log(tmp_path, 9) as log:
        log(result(1))
        log.state_dict()
        assert flushed == [(tmp_path / "metrics.jsonl").stat().st_ino]


def test_other_ranks_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: an empty folder, and silence."""
    monkeypatch.setattr("ccnet.distributed.is_main", lambda: False)
    with run_log(tmp_path, 1) as log:
        log.text("config", "seed: 0")
        log.hparams({"seed": 0}, [])
        log(result(1))
        assert list(log.evaluating([1, 2], 2)) == [1, 2]
        log.picture(1, "val/x", torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
        log.scores(1, {"mIoU": 0.5})
        log.state_dict()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""


STATE = {"last_step": 2, "bad_steps": 0, "names": ["ohem"], "sums": [[3.0]]}


DAMAGES: dict[str, list[Any]] = {
    "last_step": [5, -1, True, "2", None],
    "bad_steps": [3, -1, 0.0, None],
    "names": ["ohem", ["ohem", "ohem"], [["ohem"]], None],
    "sums": [None, [], [[]], [[1.0, 2.0]], [[1.0], [2.0, 3.0]], [["1.0"]], [[True]], [[10**400]], {"0": [1.0]}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in DAMAGES.items() for value in values])
def test_a_damaged_state_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    """Oracle: a CheckpointError that names the key, and a log that is as before."""
    with run_log(tmp_path, 9, start_step=4, log_every=5) as log:
        log.load_state_dict(STATE)
        with pytest.raises(CheckpointError, match=f"the log's {key} in the checkpoint must be"):
            log.load_state_dict({**STATE, "last_step": 3, key: value})
        assert log.state_dict() == STATE


def test_a_state_with_keys_missing_is_refused(tmp_path: Path) -> None:
    """Oracle: a CheckpointError that names the key."""
    with run_log(tmp_path, 9, start_step=4, log_every=5) as log:
        for key in STATE:
            with pytest.raises(CheckpointError, match=f"the log's {key} in"):
                log.load_state_dict({name: value for name, value in STATE.items() if name != key})
        with pytest.raises(CheckpointError, match="the log's sums in"):
            log.load_state_dict({**STATE, "names": []})
