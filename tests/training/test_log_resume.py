"""Logs of interrupted runs against those of uninterrupted ones. This file is also the program of the processes that
are killed, and of the ranks."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import distributed as dist

from ccnet.training.log import RunLog
from ccnet.training.trainer import StepResult

CLOCKED = {"images_per_second", "data_wait", "memory_gib"}
PICTURE = np.zeros((4, 6, 3), dtype=np.uint8)


@dataclass
class Checkpoint:
    """What a resumed run finds: its step, whether the evaluation of this step is done, and the log's state as JSON."""

    step: int = 0
    is_scored: bool = True
    state: str | None = None


@dataclass
class Recipe:
    max_steps: int = 12
    log_every: int = 3
    evaluate_every: int = 4


def result(step: int, rank: int = 0) -> StepResult:
    """Numbers whose sum depends on the order; every seventh step is skipped, every eleventh gradient overflows."""
    random = np.random.default_rng([step, rank])
    ohem, auxiliary, norm = torch.from_numpy(random.standard_normal(3).astype(np.float32) * 10 ** random.integers(0, 6))
    overflow = torch.tensor(torch.inf if step % 11 == 0 else 0.0)
    return StepResult(step, {"ohem": ohem, "auxiliary": auxiliary}, norm + overflow, 0.1, 4, step % 7 == 0)


def evaluate(log: RunLog, step: int) -> None:
    log.picture(step, "val/x", PICTURE)
    log.scores(step, {"mIoU": 1 / step, "loss": 1 / 3 / step, "IoU/road": 0.1 * step})


def incarnation(
    folder: Path, recipe: Recipe, found: Checkpoint, save_at: int, end: int, cut: bool, rank: int = 0
) -> Checkpoint:
    """Continues a run like training does, and ends without a warning.

    Args:
        save_at: the step of its only checkpoint.
        end: its last step; those beyond the checkpoint are lost.
        cut: a signal comes during the evaluation before the checkpoint, which ends the process, too.
    """
    saved = found
    log = RunLog(folder, recipe.max_steps, found.step, recipe.log_every,
                 evaluate_every=recipe.evaluate_every, device=torch.device("cpu"))  # fmt: skip
    with log:
        if found.state is not None:
            log.load_state_dict(json.loads(found.state))
        log.text("config", "seed: 0")
        log.hparams({"seed": 0}, ["val/mIoU"])
        if not found.is_scored:
            evaluate(log, found.step)
        for step in range(found.step + 1, end + 1):
            log(result(step, rank))
            is_due = step % recipe.evaluate_every == 0 or step == recipe.max_steps
            is_cut = cut and step == save_at and is_due
            if is_due and not is_cut:
                evaluate(log, step)
            if step == save_at:
                saved = Checkpoint(step, not is_cut, json.dumps(log.state_dict(), allow_nan=False))
            if is_cut:
                break
    return saved


def rows(folder: Path) -> list[dict[str, float]]:
    """The reader refuses NaN and infinity; what depends on the clock is left out."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    table = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in table]


def events(folder: Path) -> dict[str, list[Any]]:
    """Everything that TensorBoard's reader finds."""
    board = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0, "tensors": 0}).Reload()
    tags = board.Tags()
    found = {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in tags["scalars"]}
    found |= {tag: [e.step for e in board.Images(tag)] for tag in tags["images"]}
    found |= {tag: [e.step for e in board.Tensors(tag)] for tag in tags["tensors"]}
    return {tag: found[tag] for tag in sorted(found) if tag.partition("/")[2] not in CLOCKED}


plans = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=4)


@settings(max_examples=60, deadline=None)
@given(plans, st.integers(1, 13), st.integers(1, 13))
def test_rows_do_not_tell_of_interruptions(
    plan: list[tuple[int, int, bool]], log_every: int, evaluate_every: int
) -> None:
    """Oracle: an uninterrupted run, bit for bit: any steps of saving and dying, evaluations cut short, lost again."""
    recipe = Recipe(12, log_every, evaluate_every)
    with tempfile.TemporaryDirectory() as name, patch("ccnet.training.log.Board"), patch("ccnet.training.log.LiveLine"):
        whole, parts = Path(name) / "whole", Path(name) / "parts"
        whole.mkdir()
        parts.mkdir()
        incarnation(whole, recipe, Checkpoint(), save_at=0, end=12, cut=False)
        found = Checkpoint()
        for save_at, end, cut in plan:
            found = incarnation(parts, recipe, found, save_at, end, cut)
        incarnation(parts, recipe, found, save_at=0, end=12, cut=False)
        assert rows(parts) == rows(whole)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    incarnation(folder, Recipe(), Checkpoint(), save_at=0, end=12, cut=False)
    return folder


PLANS = {
    "killed before the first checkpoint": [(0, 5, False)],
    "killed in the middle of an interval": [(5, 8, False)],
    "killed at an evaluation": [(4, 4, False), (8, 8, False)],
    "killed beyond an evaluation": [(4, 9, False)],
    "killed after the last evaluation, at a row": [(12, 12, False)],
    "evaluation cut short": [(4, 4, True)],
    "evaluation cut short, at a row": [(12, 12, True)],
    "evaluation cut short, then killed": [(8, 8, True), (0, 10, False), (0, 8, False)],
    "saved with a gradient that overflowed": [(11, 12, False)],
    "many files": [(1, 2, False), (2, 4, False), (3, 5, False), (4, 4, True), (5, 12, False), (6, 8, False)],
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_tensorboard_does_not_tell_of_interruptions(
    tmp_path: Path, uninterrupted: Path, plan: list[tuple[int, int, bool]]
) -> None:
    """Oracle: an uninterrupted run as TensorBoard's reader sees it: scalars, pictures, texts, hparams."""
    found = Checkpoint()
    for save_at, end, cut in plan:
        found = incarnation(tmp_path, Recipe(), found, save_at, end, cut)
    incarnation(tmp_path, Recipe(), found, save_at=0, end=12, cut=False)
    assert rows(tmp_path) == rows(uninterrupted)
    assert events(tmp_path) == events(uninterrupted)
    assert len(events(tmp_path)["val/x"]) == 3


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)])


def killed(folder: Path) -> None:
    """Saves at step 5, is killed as soon as the row of step 9 is written."""
    log = RunLog(folder, 12, 0, 3, evaluate_every=4, device=torch.device("cpu"))
    for step in range(1, 10):
        log(result(step))
        if step % 4 == 0:
            evaluate(log, step)
        if step == 5:
            (folder / "state.json").write_text(json.dumps(log.state_dict()))
    os._exit(9)  # no buffer is flushed, no thread is waited for


def test_a_killed_process_loses_no_row(tmp_path: Path, uninterrupted: Path) -> None:
    """Oracle: an uninterrupted run up to that step, in both files; then the whole of it."""
    assert start("killed", tmp_path).wait(timeout=60) == 9
    state = (tmp_path / "state.json").read_text()
    assert rows(tmp_path) == [row for row in rows(uninterrupted) if row["step"] <= 9]
    expected, found = events(uninterrupted), events(tmp_path)
    for tag in ("train/loss", "train/bad_steps", "val/mIoU"):
        assert found[tag] == [event for event in expected[tag] if event[0] <= 9]
    incarnation(tmp_path, Recipe(), Checkpoint(5, True, state), save_at=0, end=12, cut=False)
    assert rows(tmp_path) == rows(uninterrupted)
    # The texts were not written: the killed process never did.
    assert {tag: found for tag, found in events(tmp_path).items() if found != [0]} == {
        tag: found for tag, found in expected.items() if found != [0]
    }


def on_a_rank(folder: Path, rank: int) -> None:
    """Runs twice, the second time interrupted at steps 1, 5 and 8, and writes the states."""
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", rendezvous, timedelta(seconds=60), world_size=2, rank=rank)
    for name, plan in (("whole", []), ("parts", [1, 5, 8])):
        run = folder / name
        run.mkdir(exist_ok=True)
        found = Checkpoint()
        for step in plan:
            found = incarnation(run, Recipe(), found, step, min(step + 2, 12), False, rank)
            if step == 5:
                (folder / f"state{rank}.json").write_text(found.state or "")
        incarnation(run, Recipe(), found, save_at=0, end=12, cut=False, rank=rank)
        dist.barrier()
    dist.destroy_process_group()


def test_ranks_keep_their_own_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: an uninterrupted run of two ranks, bit for bit, and the means of both ranks' numbers; the states of the
    ranks are one; on a single rank the run goes on with the same means."""
    processes = [start("rank", tmp_path, rank) for rank in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    first = next(row for row in rows(tmp_path / "whole") if row["step"] == 3)
    values = [result(step, rank).losses["ohem"].item() for step in (1, 2, 3) for rank in range(2)]
    assert first["ohem"] == pytest.approx(np.mean(values), rel=1e-6)
    states = [(tmp_path / f"state{rank}.json").read_text() for rank in range(2)]
    assert states[0] == states[1]
    assert len(json.loads(states[0])["sums"]) == 2
    (tmp_path / "one").mkdir()
    log = RunLog(tmp_path / "one", 12, 5, 3, evaluate_every=4, device=torch.device("cpu"))
    with log:
        log.load_state_dict(json.loads(states[0]))
        log(StepResult(6, {"ohem": torch.tensor(0.0), "auxiliary": torch.tensor(0.0)}, torch.tensor(0.0), 0.1, 4))
    values = [result(step, rank).losses["ohem"].item() for step in (4, 5) for rank in range(2)]
    assert rows(tmp_path / "one")[0]["ohem"] == pytest.approx(np.mean(values) * 2 / 3, rel=1e-6)


def test_more_ranks_share_what_fewer_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand: the mean over the ranks stays."""
    state = {"last_step": 0, "bad_steps": 0, "names": ["ohem"], "sums": [[2.0], [6.0]]}
    monkeypatch.setattr("ccnet.distributed.world_size", lambda: 4)
    own = []
    for rank in range(4):
        monkeypatch.setattr("ccnet.distributed.rank", lambda rank=rank: rank)
        with RunLog(tmp_path, 9, 1, 9, evaluate_every=9, device=torch.device("cpu")) as log:
            log.load_state_dict(state)
            own.append(log.sums["ohem"].item())
    assert own == [16.0, 0.0, 0.0, 0.0]
    assert sum(own) / 4 == (2.0 + 6.0) / 2


if __name__ == "__main__":
    task, where, *rest = sys.argv[1:]
    if task == "killed":
        killed(Path(where))
    else:
        on_a_rank(Path(where), int(rest[0]))
