"""Learning rate schedules: called with a step, counted from 0, they return the factor of the base learning rates.

Pure functions of the step, so that nothing has to be saved or restored. All of them rise for `warmup_steps` from
`warmup_factor` to 1, and raise a ValueError where that does not end within the run's `max_steps`.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """Linear warm-up, then 1; the learning rate of staged training, whose phases bring their own."""

    max_steps: int
    warmup_steps: int = 0
    warmup_factor: float = 0.1

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_steps, self.max_steps)

    def __call__(self, step: int) -> float:
        return _warmup(step, self.warmup_steps, self.warmup_factor) if step < self.warmup_steps else 1.0


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine, which would reach `final_factor` at `max_steps`."""

    max_steps: int
    warmup_steps: int = 0
    warmup_factor: float = 0.1
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_steps, self.max_steps)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _warmup(step, self.warmup_steps, self.warmup_factor)
        return _cosine(1.0, self.final_factor, (step - self.warmup_steps) / (self.max_steps - self.warmup_steps))


@dataclass(frozen=True)
class Poly:
    """(1 - progress)^power, the schedule of the official CCNet code, with an optional linear warm-up and end value."""

    max_steps: int
    power: float = 0.9
    warmup_steps: int = 0
    warmup_factor: float = 0.1
    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_steps, self.max_steps)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _warmup(step, self.warmup_steps, self.warmup_factor)
        progress = (step - self.warmup_steps) / (self.max_steps - self.warmup_steps)
        return self.final_factor + (1 - self.final_factor) * float((1 - progress) ** self.power)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine from `warmup_factor` up to 1, then another down, which would reach `final_factor` at `max_steps`
    (arXiv:1708.07120, in the form of torch's OneCycleLR, whose defaults these factors are; momentum stays as it is).

    The factor is 1 at `warmup_steps`; 0.3 of a run is usual.
    """

    max_steps: int
    warmup_steps: int
    warmup_factor: float = 0.04
    final_factor: float = 4e-6

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_steps, self.max_steps)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return _cosine(self.warmup_factor, 1.0, step / self.warmup_steps)
        return _cosine(1.0, self.final_factor, (step - self.warmup_steps) / (self.max_steps - self.warmup_steps))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _warmup(step: int, warmup_steps: int, warmup_factor: float) -> float:
    return warmup_factor + (1 - warmup_factor) * step / warmup_steps


def _require_warmup(warmup_steps: int, max_steps: int) -> None:
    if not 0 <= warmup_steps < max_steps:
        raise ValueError(f"schedule.warmup_steps must lie in 0..{max_steps - 1} (max_steps - 1), got {warmup_steps}")
