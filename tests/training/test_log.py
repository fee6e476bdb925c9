"""What a run leaves behind to read."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccnet.training.log import RunLog
from ccnet.training.trainer import StepResult


def result(step: int) -> StepResult:
    losses = {"ohem": torch.tensor(float(step)), "auxiliary": torch.tensor(0.5)}
    return StepResult(step, losses, torch.tensor(2.0), 0.1, 4)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rows_are_means_over_their_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: means by hand; where no terminal watches, a plain line an interval."""
    with RunLog(tmp_path, max_steps=5, start_step=0, log_every=2) as log:
        for step in range(1, 6):
            log(result(step))
        log.scores(5, {"mIoU": 0.5, "IoU/road": 0.25})
    table = rows(tmp_path)
    assert [row["step"] for row in table] == [2, 4, 5, 5]
    assert [row["ohem"] for row in table[:3]] == [1.5, 3.5, 5.0]
    assert [row["loss"] for row in table[:3]] == [2.0, 4.0, 5.5]
    assert (table[0]["grad_norm"], table[0]["lr"]) == (2.0, 0.1)
    assert table[0]["images_per_second"] > 0
    printed = capsys.readouterr().err
    assert "step 2/5  loss 2.000" in printed
    assert "ETA 0:00:00" in printed
    assert "step 5: mIoU 0.5" in printed


def test_tensorboard_reads_the_same(tmp_path: Path) -> None:
    """Oracle: TensorBoard's own reader."""
    with RunLog(tmp_path, max_steps=2, start_step=0, log_every=1) as log:
        log.text("config", "seed: 0")
        for step in (1, 2):
            log(result(step))
        log.scores(2, {"mIoU": 0.5, "IoU/road": 0.25})
        log.picture(2, "val/x", torch.zeros(4, 6, 3, dtype=torch.uint8).numpy())
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 1.5), (2, 2.5)]
    assert board.Scalars("val/mIoU")[0].value == 0.5
    assert board.Scalars("IoU/road")[0].value == 0.25
    assert board.Images("val/x")[0].width == 6


def test_resuming_leaves_no_doubles(tmp_path: Path) -> None:
    """Oracle: each step once; a row beyond the checkpoint comes again."""
    with RunLog(tmp_path, max_steps=4, start_step=0, log_every=1) as log:
        for step in (1, 2, 3):
            log(result(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')  # what a crash leaves
    with RunLog(tmp_path, max_steps=4, start_step=2, log_every=1) as log:
        for step in (3, 4):
            log(result(step))
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("train/loss")] == [1, 2, 3, 4]
