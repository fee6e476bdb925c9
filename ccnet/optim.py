"""Optimizers over a segmentor's parameter groups."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ccnet.errors import ConfigError
from ccnet.models.attention.insertion import INSERTED

# Power of the ratio of batch sizes.
SCALING_POWER = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}


def sgd(
    model: nn.Module,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = False,
    head_lr_factor: float = 1.0,
    decay_all: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum; the groups are those of `parameter_groups`.

    Raises:
        ConfigError: a value that is negative or not finite.
    """
    _require_finite("momentum", momentum)
    groups = parameter_groups(model, lr, weight_decay, head_lr_factor, decay_all)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)


def adamw(
    model: nn.Module,
    lr: float,
    betas: tuple[float, float] | list[float] = (0.9, 0.999),
    weight_decay: float = 0.01,
    head_lr_factor: float = 1.0,
    decay_all: bool = False,
) -> Optimizer:
    """AdamW (arXiv:1711.05101); the groups are those of `parameter_groups`.

    Raises:
        ConfigError: a value that is negative or not finite.
    """
    groups = parameter_groups(model, lr, weight_decay, head_lr_factor, decay_all)
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]))


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, head_lr_factor: float = 1.0, decay_all: bool = False
) -> list[dict[str, Any]]:
    """Backbone and heads, each with and without weight decay.

    Attention that was inserted into the backbone counts as a head: it starts from random numbers, too.

    Args:
        head_lr_factor: learning rate of everything outside the backbone, as a multiple of `lr`.
        decay_all: also decays norms, biases and gamma, as the official CCNet code does; else vectors and scalars are
            left alone.

    Raises:
        ConfigError: a value that is negative or not finite.
    """
    for argument, value in (("lr", lr), ("weight_decay", weight_decay), ("head_lr_factor", head_lr_factor)):
        _require_finite(argument, value)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            in_backbone = name.startswith("backbone.") and INSERTED not in name.split(".")
            key = (in_backbone, decay_all or parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr if in_backbone else lr * head_lr_factor,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]


def scaled_lr(lr: float, batch_size: int, lr_batch_size: int, rule: str) -> float:
    """The learning rate for another batch size than it was found with.

    Args:
        lr: for batches of `lr_batch_size` images.
        batch_size: over all ranks.
        rule: none, linear (arXiv:1706.02677, for SGD) or sqrt (arXiv:2205.10287, for Adam).

    Raises:
        ConfigError: an `lr_batch_size` below 1.
    """
    if lr_batch_size < 1:
        raise ConfigError(f"trainer.lr_batch_size must be at least 1, got {lr_batch_size}")
    return lr * float((batch_size / lr_batch_size) ** SCALING_POWER[rule])


def _require_finite(key: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"optimizer.{key} must be 0 or a positive finite number, got {value}")
