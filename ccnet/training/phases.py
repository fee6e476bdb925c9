"""Staged training: which parameters train, and how fast, along a run."""

import difflib
import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from torch import nn
from torch.optim import Optimizer

from ccnet import distributed
from ccnet.errors import ConfigError

logger = logging.getLogger("ccnet")


class Trained(Protocol):
    """Glob patterns over the names of parameters, such as `head.*`."""

    @property
    def train(self) -> Sequence[str]: ...


class Phase(Trained, Protocol):
    """A phase as the configuration tells it: so many steps or epochs long."""

    @property
    def lr(self) -> float | None: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def epochs(self) -> float | None: ...


@dataclass(frozen=True)
class Stage:
    """A phase in steps: from `start`, counted from 0, up to but without `end`. No `lr` leaves the optimizer's."""

    train: tuple[str, ...]
    lr: float | None
    start: int
    end: int


def resolve(phases: Sequence[Phase], steps_per_epoch: float, max_steps: int) -> list[Stage]:
    """Where each phase begins and ends. Epochs add up before they are rounded to steps.

    Args:
        phases: all but the last say either their steps or their epochs; the last goes on to the end.
        steps_per_epoch: images of the training set over images of a batch.
        max_steps: of the run.

    Raises:
        ConfigError: a phase without an end or with two, one that trains nothing or has no room in the run, or a
            value that is not positive.
    """
    stages: list[Stage] = []
    position = 0.0
    for index, phase in enumerate(phases):
        is_last = index == len(phases) - 1
        _require_values(phase, f"phases[{index}]", is_last)
        start = round(position)
        position += phase.steps or (phase.epochs or 0) * steps_per_epoch
        end = max_steps if is_last else round(position)
        if start >= max_steps:
            raise ConfigError(
                f"phases[{index}] would begin with step {start + 1}, after trainer.max_steps={max_steps}; "
                "shorten the phases before it, or train longer"
            )
        if end == start:
            raise ConfigError(f"phases[{index}] is shorter than a step; an epoch has {steps_per_epoch:g}")
        stages.append(Stage(tuple(phase.train), phase.lr, start, end))
    return stages


def require_parameters(model: nn.Module, phases: Sequence[Trained]) -> None:
    """Holds the patterns against a model, which may lie on the meta device.

    Raises:
        ConfigError: a pattern that matches no parameter, or a phase in which nothing would train.
    """
    parameters = dict(model.named_parameters())
    for index, phase in enumerate(phases):
        for pattern in phase.train:
            if not any(fnmatchcase(name, pattern) for name in parameters):
                near = ", ".join(_near(pattern, list(parameters)))
                raise ConfigError(f"phases[{index}].train: no parameter matches {pattern}; there are {near}")
        if not any(parameter.requires_grad and _matches(name, phase) for name, parameter in parameters.items()):
            raise ConfigError(f"phases[{index}].train={list(phase.train)} matches only what the model keeps frozen")


class Phases:
    """Called before every step. What it does is a function of the step, so a resumed run falls into its phase.

    A frozen parameter has no gradient: the optimizer leaves it, its momentum and its decay alone. What wants no
    gradient when this is made never gets one.

    Args:
        model: the bare model.
        optimizer: as it was built. A group keeps its share of the learning rate: its `initial_lr` becomes the phase's
            times its own over `lr`.
        stages: one after the other from step 0 on; at least one.
        lr: optimizer.lr, which the learning rates of the phases stand beside.
        on_change: called after each change, also before the first step of a process.

    Raises:
        ConfigError: patterns as for `require_parameters`, or an `lr` that nothing can stand beside.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        stages: Sequence[Stage],
        lr: float,
        on_change: Callable[[], None],
    ) -> None:
        require_parameters(model, stages)
        if not lr > 0:
            raise ConfigError(f"optimizer.lr must be positive where there are phases, got {lr}")
        self.optimizer, self.stages, self.lr, self.on_change = optimizer, stages, lr, on_change
        self.parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.num_weights = sum(each.numel() for each in model.parameters())
        self.base = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.starts = [stage.start for stage in stages]
        self.current: int | None = None

    def __call__(self, step: int) -> None:
        """Enters the phase of a step, counted from 0, if it is another one."""
        index = bisect_right(self.starts, step) - 1
        if index == self.current:
            return
        self.current = index
        stage = self.stages[index]
        self._freeze(stage)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["initial_lr"] = base if stage.lr is None else stage.lr * (base / self.lr)
        if distributed.is_main():
            self._tell(index, stage)
        self.on_change()

    def _freeze(self, stage: Stage) -> None:
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(_matches(name, stage))
            if not parameter.requires_grad:
                parameter.grad = None

    def _tell(self, index: int, stage: Stage) -> None:
        trained = sum(each.numel() for each in self.parameters.values() if each.requires_grad)
        logger.info(
            "phase %d of %d, steps %d..%d: %.2f M of %.2f M parameters train (%s), lr %g",
            index + 1,
            len(self.stages),
            stage.start + 1,
            stage.end,
            trained / 1e6,
            self.num_weights / 1e6,
            ", ".join(stage.train),
            max(group["initial_lr"] for group in self.optimizer.param_groups),  # as the log of the steps shows
        )


def _require_values(phase: Phase, key: str, is_last: bool) -> None:
    if not phase.train:
        raise ConfigError(f"{key}.train is empty; it needs a pattern such as head.* or *")
    for name, value in (("lr", phase.lr), ("steps", phase.steps), ("epochs", phase.epochs)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{key}.{name} must be positive, got {value}")
    given = (phase.steps is not None) + (phase.epochs is not None)
    if is_last and given:
        raise ConfigError(f"{key} is the last phase and lasts to the end; take out its steps or epochs")
    if not is_last and given != 1:
        raise ConfigError(
            f"{key} needs either steps or epochs, as a phase follows it; it has {'both' * given or 'none'}"
        )


def _matches(name: str, phase: Trained) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in phase.train)  # fnmatch ignores case on Windows


def _near(pattern: str, names: Sequence[str]) -> list[str]:
    """Patterns and names like the one that was meant; else the parts of the model."""
    parts = [name.split(".") for name in names]
    prefixes = {".".join([*part[:depth], "*"]): None for part in parts for depth in range(1, len(part))}
    near = difflib.get_close_matches(pattern, [*prefixes, *names], n=3, cutoff=0.6)
    return near or list(dict.fromkeys(f"{part[0]}.*" for part in parts))
