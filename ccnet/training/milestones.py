"""Evaluation and checkpoints along the way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from ccnet import checkpoint, distributed
from ccnet.training.trainer import StepResult, Trainer


class Scores(Protocol):
    """What an evaluation returns."""

    @property
    def mean_iou(self) -> float: ...


class Intervals(Protocol):
    """In steps; `keep` of the newest checkpoints stay, and the best one always does."""

    max_steps: int
    evaluate_every: int
    save_every: int
    keep: int


AnyScores = TypeVar("AnyScores", bound=Scores)


class Milestones(Generic[AnyScores]):
    """Called after every step; evaluates and saves at their intervals and at the last step.

    Args:
        folder: where checkpoints go.
        trainer: its optimizer and scaler are saved along.
        model: the bare model: weights to save and to evaluate, on any number of ranks.
        evaluate: model -> scores.
        meta: what a checkpoint tells about itself beside step and score.
        on_scores: called with the step and its scores.
        intervals: when.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        model: nn.Module,
        evaluate: Callable[[nn.Module], AnyScores],
        meta: Mapping[str, Any],
        on_scores: Callable[[int, AnyScores], None],
        intervals: Intervals,
    ) -> None:
        self.folder, self.trainer, self.model, self.evaluate, self.meta = folder, trainer, model, evaluate, meta
        self.on_scores, self.intervals = on_scores, intervals

    def __call__(self, result: StepResult) -> None:
        """Evaluates first, so that the checkpoint knows its score."""
        last = result.step == self.intervals.max_steps
        score = None
        if last or result.step % self.intervals.evaluate_every == 0:
            distributed.share_buffers(self.model)
            scores = self.evaluate(self.model)
            score = scores.mean_iou
            self.on_scores(result.step, scores)
        if score is not None or result.step % self.intervals.save_every == 0:
            if distributed.is_main():
                self._save(result.step, score)
            distributed.barrier()

    def _save(self, step: int, score: float | None) -> None:
        meta = {**self.meta, "step": step, "score": score, "scaler": self.trainer.scaler.state_dict()}
        checkpoint.save(self.folder, self.model, self.trainer.optimizer, meta)
        checkpoint.rotate(self.folder, self.intervals.keep)


def resume(trainer: Trainer, model: nn.Module, found: checkpoint.Checkpoint) -> None:
    """Puts model, optimizer, scaler and step where the checkpoint left them."""
    checkpoint.restore_model(model, found)
    checkpoint.restore_optimizer(trainer.optimizer, found)
    trainer.scaler.load_state_dict(found.meta["scaler"])
    trainer.step = found.step
