"""Evaluation and checkpoints along the way, and the stop that a signal asks for."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from ccnet import checkpoint, distributed, restore
from ccnet.errors import CheckpointError, RunStoppedError
from ccnet.training.ema import WeightAverage
from ccnet.training.signals import EXIT_STATUS, StopSignals
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


class Stateful(Protocol):
    """Something whose plain values are part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


AnyScores = TypeVar("AnyScores", bound=Scores)


class Milestones(Generic[AnyScores]):
    """Called after every step; evaluates and saves at their intervals and at the last step. Where a signal came to
    any rank, all of them save and stop.

    Args:
        folder: where checkpoints go.
        trainer: its optimizer is saved along.
        model: the bare model: weights to save, on any number of ranks.
        average: of the weights; evaluated in their place where there is one.
        evaluate: model -> scores, or None where a signal cut it short.
        parts: what else to save, by name; `state_dict` is called on all ranks.
        meta: what a checkpoint tells about itself beside step and score.
        on_scores: called with the step and its scores.
        intervals: when.
        signals: that stop the run.
    """

    def __init__(
        self,
        folder: Path,
        trainer: Trainer,
        model: nn.Module,
        average: WeightAverage | None,
        evaluate: Callable[[nn.Module], AnyScores | None],
        parts: Mapping[str, Stateful],
        meta: Mapping[str, Any],
        on_scores: Callable[[int, AnyScores], None],
        intervals: Intervals,
        signals: StopSignals,
    ) -> None:
        self.folder, self.trainer, self.model, self.average = folder, trainer, model, average
        self.evaluate, self.parts, self.meta = evaluate, parts, meta
        self.on_scores, self.intervals, self.signals = on_scores, intervals, signals
        self.saved_step, self.is_scored = -1, True

    def __call__(self, result: StepResult) -> None:
        """Evaluates first, so that the checkpoint knows its score.

        Raises:
            RunStoppedError: a signal came, and the run is saved.
        """
        if self._is_evaluated_at(result.step):
            self.evaluate_and_save(result.step)
        elif result.step % self.intervals.save_every == 0:
            self.save(result.step)
        self.stop_if_asked(result.step)

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Puts everything where a checkpoint left it.

        Raises:
            CheckpointError: it is damaged, or belongs to another run.
        """
        restore.restore_model(self.model, found.model, found.path)
        restore.restore_optimizer(self.trainer.optimizer, found)
        if self.average is not None:
            restore.restore_model(self.average.model, found.weights, found.path)
        for name, part in self.parts.items():
            try:
                part.load_state_dict(found.state_of(name))
            except CheckpointError as error:
                raise CheckpointError(f"{found.path}: {error}") from error
        self.trainer.step = self.saved_step = found.step
        self.is_scored = found.score is not None
        if distributed.is_main():  # the process before may have been killed between its save and its rotation
            checkpoint.rotate(self.folder, self.intervals.keep, found.path)

    def catch_up(self) -> None:
        """After `restore`: the evaluation that a signal cut short comes before the next step.

        Raises:
            RunStoppedError: as after a step.
        """
        step = self.trainer.step
        if not self.is_scored and self._is_evaluated_at(step):
            self.evaluate_and_save(step)
            self.stop_if_asked(step)

    def stop_if_asked(self, step: int) -> None:
        """Where all ranks come by together.

        Raises:
            RunStoppedError: a signal came, and the run is saved.
        """
        if name := self.signals.agreed():
            self.save(step)
            told = f"stopped by {name} at step {step}, which is saved in {self.folder}; the same command continues"
            raise RunStoppedError(told, EXIT_STATUS[name])

    def evaluate_and_save(self, step: int) -> None:
        """Nothing is saved where the evaluation was cut short: whoever did that saves."""
        distributed.share_buffers(self.evaluated)
        scores = self.evaluate(self.evaluated)
        if scores is not None:
            self.on_scores(step, scores)
            self._save(step, scores.mean_iou if math.isfinite(scores.mean_iou) else None)  # NaN: nothing was labelled

    def save(self, step: int) -> None:
        """Unless that is done."""
        if step != self.saved_step:
            self._save(step, None)

    @property
    def evaluated(self) -> nn.Module:
        """The model that scores belong to."""
        return self.model if self.average is None else self.average.model

    def _is_evaluated_at(self, step: int) -> bool:
        return step == self.intervals.max_steps or (step > 0 and step % self.intervals.evaluate_every == 0)

    def _save(self, step: int, score: float | None) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        if distributed.is_main():
            meta = {**self.meta, "step": step, "score": score, "parts": states}
            average = None if self.average is None else self.average.state_dict()
            saved = checkpoint.save(self.folder, self.model, self.trainer.optimizer, meta, average)
            checkpoint.rotate(self.folder, self.intervals.keep, saved)
        distributed.barrier()
        self.saved_step = step
