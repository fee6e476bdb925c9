"""From the contents of a checkpoint, which are not trusted, into a model and its optimizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccnet.checkpoint import Checkpoint, State
from ccnet.errors import CheckpointError


def restore_model(model: nn.Module, state: State, path: Path) -> None:
    """Fills the model; every tensor must fit.

    Args:
        model: to be filled.
        state: of a checkpoint: its `model`, `ema` or `weights`.
        path: of the checkpoint, for messages.

    Raises:
        CheckpointError: it was made for another model, or holds a NaN or an infinity.
    """
    require_fit(model, state, path)
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    model.load_state_dict(state)


def require_fit(model: nn.Module, state: State, path: Path) -> None:
    """Compares names, shapes and kinds of tensors; the model may be on the meta device.

    Raises:
        CheckpointError: the state was made for another model, for instance for another number of classes.
    """
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is unknown" for key in state if key not in own]
    problems += [
        f"{key} is {tuple(state[key].shape)}, the model's {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    problems += [
        f"{key} is {state[key].dtype}, the model's {value.dtype}"
        for key, value in own.items()
        if key in state and state[key].is_floating_point() != value.is_floating_point()
    ]
    if problems:
        listed = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{path} was made for another model: {listed}")


def restore_optimizer(optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Fills the optimizer; its learning rates and the like stay those of the configuration.

    Raises:
        CheckpointError: it belongs to another optimizer or other parameters, or holds a NaN or an infinity.
    """
    try:
        state = _unflatten(checkpoint.optimizer, checkpoint.meta["optimizer"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{checkpoint.path}: the optimizer's state is unreadable: {error}") from error
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():
        if not 0 <= index < len(parameters):
            raise CheckpointError(f"{checkpoint.path}: the optimizer has no parameter {index}")
        for name, value in values.items():
            if isinstance(value, Tensor):
                what = f"{checkpoint.path}: {name} of parameter {index}"
                values[name] = _like(parameters[index], value, what)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _like(parameter: Tensor, value: Tensor, what: str) -> Tensor:
    """A value of the optimizer in the memory layout of its parameter: kernels over many tensors want them alike."""
    if value.shape not in ((), parameter.shape):
        raise CheckpointError(f"{what} is for another optimizer")
    if value.is_complex() or not torch.isfinite(value).all():
        raise CheckpointError(f"{what} is not finite")
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value) if value.ndim else value


def _unflatten(tensors: State, plain: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain.items()]:
        if not isinstance(value, Tensor | float | int | None):
            raise ValueError(f"{name} is a {type(value).__name__}")
        index, _, key = name.partition(".")
        if state.setdefault(int(index), {}).setdefault(key, value) is not value:
            raise ValueError(f"{name} is there twice")
    return state
