"""When a run is evaluated and saved, and how it comes back."""

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ccnet import checkpoint
from ccnet.errors import CheckpointError, RunStoppedError
from ccnet.training.ema import WeightAverage
from ccnet.training.milestones import Milestones
from ccnet.training.signals import StopSignals
from ccnet.training.trainer import Trainer
from tests.training.test_trainer import batches, trainer_of


@dataclass
class Fake:
    """Stands for scores, intervals and an evaluation that a signal may cut short."""

    mean_iou: float = 0.5
    max_steps: int = 5
    evaluate_every: int = 3
    save_every: int = 2
    keep: int = 10
    seen: list[Any] = field(default_factory=list)
    cut_short: bool = False

    def __call__(self, model: nn.Module) -> "Fake | None":
        self.seen.append(model)
        return None if self.cut_short else self


def milestones_of(folder: Path, trainer: Trainer, fake: Fake, average: WeightAverage | None = None) -> Milestones[Any]:
    shown: list[int] = []
    made = Milestones(
        folder, trainer, trainer.model, average, fake, {"trainer": trainer}, {"note": "hello"},
        lambda step, scores: shown.append(step), fake, StopSignals(),
    )  # fmt: skip
    made.shown = shown  # type: ignore[attr-defined]
    return made


def saved(folder: Path) -> dict[int, float | None]:
    found = [checkpoint.load(path) for path in checkpoint.list_checkpoints(folder)]
    return {each.step: each.score for each in found}


def test_intervals_and_the_last_step(tmp_path: Path) -> None:
    """Oracle: the steps, by hand: every second is saved, every third and the last is evaluated, too."""
    trainer, fake = trainer_of(), Fake()
    milestones = milestones_of(tmp_path, trainer, fake)
    trainer.fit(batches(range(5)), after_step=[milestones])
    assert saved(tmp_path) == {2: None, 3: 0.5, 4: None, 5: 0.5}
    assert milestones.shown == [3, 5]
    assert checkpoint.load(tmp_path / "step_0000002").meta["note"] == "hello"


def test_the_average_is_what_is_evaluated_and_both_come_back(tmp_path: Path) -> None:
    """Oracle: the states that were saved, bit for bit."""
    trainer, fake = trainer_of(), Fake()
    average = WeightAverage(trainer.model, 0.9)
    trainer.fit(batches(range(5)), after_step=[average, milestones_of(tmp_path, trainer, fake, average)])
    assert all(model is average.model for model in fake.seen)

    other = trainer_of()
    copy = WeightAverage(other.model, 0.9)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    milestones_of(tmp_path, other, fake, copy).restore(found)
    for left, right in ((other.model, trainer.model), (copy.model, average.model)):
        torch.testing.assert_close(dict(left.state_dict()), dict(right.state_dict()), rtol=0, atol=0)
    assert not torch.equal(copy.model.conv.weight, other.model.conv.weight)
    assert other.step == 5
    broken = checkpoint.Checkpoint(tmp_path, {**found.meta, "parts": {}}, found.model, found.optimizer, found.ema)
    with pytest.raises(CheckpointError, match="has no state of trainer"):
        milestones_of(tmp_path, other, fake, copy).restore(broken)


def test_a_signal_saves_and_stops(tmp_path: Path) -> None:
    """Oracle: the step of the signal is saved once, and the exit status is the one of the signal."""
    for number, status in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        trainer, folder = trainer_of(), tmp_path / str(number)
        milestones = milestones_of(folder, trainer, Fake(save_every=100))

        def raise_signal(result: Any, number: int = number) -> None:
            if result.step == 2:
                signal.raise_signal(number)

        with milestones.signals, pytest.raises(RunStoppedError, match="at step 2, which is saved") as stop:
            trainer.fit(batches(range(5)), after_step=[raise_signal, milestones])
        assert stop.value.exit_status == status
        assert saved(folder) == {2: None}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_evaluation_cut_short_is_made_up_for(tmp_path: Path) -> None:
    """Oracle: no score at first, and the score under the same step after the run came back, once."""
    trainer, fake = trainer_of(), Fake(cut_short=True)
    milestones = milestones_of(tmp_path, trainer, fake)
    milestones.signals.received = signal.SIGTERM
    with pytest.raises(RunStoppedError):
        trainer.fit(batches(range(2, 3)), after_step=[lambda result: setattr(result, "step", 3), milestones])
    assert saved(tmp_path) == {3: None}

    fake.cut_short = False
    again = milestones_of(tmp_path, trainer_of(), fake)
    found = checkpoint.newest(tmp_path)
    assert found is not None
    again.restore(found)
    again.catch_up()
    assert saved(tmp_path) == {3: 0.5}
    assert again.shown == [3]
    assert {path.name for path in tmp_path.iterdir()} == {"step_0000003"}
    again.restore(checkpoint.load(tmp_path / "step_0000003"))
    again.catch_up()
    assert again.shown == [3]


def test_nothing_that_is_not_finite_is_saved(tmp_path: Path) -> None:
    """Oracle: the refusal, and a folder with the earlier checkpoint alone."""
    trainer = trainer_of()
    milestones = milestones_of(tmp_path, trainer, Fake())
    milestones.save(1)
    with torch.no_grad():
        trainer.model.conv.bias[0] = float("inf")
    with pytest.raises(CheckpointError, match=r"model.safetensors is not saved: conv.bias holds numbers"):
        milestones.save(2)
    assert saved(tmp_path) == {1: None}


def test_a_score_of_nothing_is_no_score(tmp_path: Path) -> None:
    """Oracle: NaN, the mean over no class, cannot be the best one."""
    trainer = trainer_of()
    milestones_of(tmp_path, trainer, Fake(mean_iou=float("nan"))).evaluate_and_save(3)
    assert saved(tmp_path) == {3: None}
