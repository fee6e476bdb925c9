"""Steps that are left out because a number is not finite."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccnet import distributed
from ccnet.training.finite import FiniteGuard, NonFiniteLossError
from ccnet.training.rows import RowFile
from ccnet.training.trainer import StepResult, Trainer
from tests.training.test_trainer import batches, loss, trainer_of

NAN = float("nan")


def spoiled(at: set[int], kind: str) -> Any:
    """The loss of the other tests, with something wrong at some of its calls."""
    calls = iter(range(1000))

    def wrong(logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
        terms = loss(logits, mask)
        if next(calls) not in at:
            return terms
        steep = (logits * 0).sum().sqrt()  # 0, with an infinite gradient
        return {**terms, "bad": logits.sum() * NAN if kind == "loss" else steep}

    return wrong


def snapshot(trainer: Trainer) -> dict[str, Tensor]:
    state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    momenta = enumerate(trainer.optimizer.state.values())
    return state | {f"momentum {index}": values["momentum_buffer"].clone() for index, values in momenta}


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_bad_step_leaves_no_trace(kind: str, parts: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: weights, momenta and norm statistics before the step, bit for bit; names in log and file."""
    trainer = trainer_of(max_bad_steps=2, accumulation=parts)
    trainer.fit(batches(range(2)))
    before = snapshot(trainer)
    trainer.guard.record = RowFile(tmp_path / "bad.jsonl")
    trainer.loss = spoiled({0}, kind)
    results: list[StepResult] = []
    with caplog.at_level(logging.WARNING, "ccnet"):
        trainer.fit(batches(range(2, 3)), after_step=[results.append])
    torch.testing.assert_close(snapshot(trainer), before, rtol=0, atol=0)
    assert results[0].skipped
    assert trainer.step == 3
    assert "step 3 left out: not finite" in caplog.text
    assert "on a2, b2" in caplog.text
    row = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (row["step"], row["rank"], row["names"]) == (3, 0, ["a2", "b2"])
    assert row.keys() >= {"first", "second"}
    assert row["gradient norm"] == "nan"
    trainer.fit(batches(range(3, 4)))
    assert not torch.equal(trainer.model.conv.weight, before["conv.weight"])


@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_resumed_run_records_no_step_twice(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one row for each bad step, in order, when a run goes on from a step before the last ones, or from the
    beginning; no rank but the first cuts the file."""
    path = tmp_path / "bad.jsonl"

    def run(start: int, stop: int) -> list[int]:
        trainer = trainer_of(max_bad_steps=9)
        trainer.guard.record, trainer.step = RowFile(path), start
        trainer.loss = spoiled({step - start for step in (1, 3)}, "loss")
        trainer.fit(batches(range(start, stop)))
        return [json.loads(line)["step"] for line in path.read_text().splitlines()]

    assert run(0, 5) == [2, 4]
    assert run(at, 5) == [2, 4]
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    assert run(0, 1) == [2, 4]


def test_only_bad_steps_in_a_row_end_the_run() -> None:
    """Oracle: two, a good one, two, then three."""
    trainer = trainer_of(max_bad_steps=3)
    trainer.loss = spoiled({0, 1, 3, 4, 6, 7, 8}, "loss")
    with pytest.raises(NonFiniteLossError, match=r"3 times in a row, last at step 9 .*bad nan.* a8, b8; lower optim"):
        trainer.fit(batches(range(20)))
    assert trainer.step == 8
    assert all(value.isfinite().all() for value in snapshot(trainer).values())


def test_a_model_without_buffers_is_guarded_too() -> None:
    """Oracle: both answers."""
    guard = FiniteGuard(torch.nn.Linear(2, 2), 1)
    guard.remember()
    one, bad = torch.tensor(1.0), torch.tensor(NAN)
    assert guard.accepts({"a": one}, one, scaled=False)
    assert not guard.accepts({"a": one, "b": bad}, one, scaled=False)
    assert not guard.accepts({"a": one}, bad, scaled=False)
    assert guard.accepts({"a": one}, bad, scaled=True)
