"""Activation checkpointing (arXiv:1604.06174): blocks keep their input alone and run again in the backward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ccnet.errors import ConfigError


def checkpoint_activations(module: nn.Module) -> None:
    """Makes every block of a backbone recompute its activations; the module tree and the state's keys stay.

    Outputs, gradients and buffers are those without. Without gradients a block runs as it ever did. The attention
    keeps little for the gradient by itself, so a head is not worth it.

    Args:
        module: the backbone.

    Raises:
        ConfigError: it has no blocks in the sense of `blocks`.
    """
    found = list(blocks(module))
    if not found:
        raise ConfigError(
            f"trainer.activation_checkpointing: {type(module).__name__} has no blocks, modules of two or more layers "
            "in an nn.Sequential or nn.ModuleList; set it to false"
        )
    for block in found:
        block.forward = MethodType(_recomputing_forward, block)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules with two or more convolutions or linear layers that stand in a series (an nn.Sequential or
    nn.ModuleList) and are no series themselves: bottlenecks, inverted residuals, transformer layers."""
    for child in module.children():
        is_series = isinstance(child, (nn.Sequential, nn.ModuleList))
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and not is_series and _num_layers(child) > 1:
            yield child
        else:
            yield from blocks(child)


def _num_layers(module: nn.Module) -> int:
    return sum(isinstance(each, (nn.Conv2d, nn.Linear)) for each in module.modules())


def _recomputing_forward(block: nn.Module, *inputs: Any, **named: Any) -> Any:
    forward = type(block).forward
    if not torch.is_grad_enabled():
        return forward(block, *inputs, **named)
    if torch.compiler.is_compiling():  # the compiler recomputes operators of its graph, and updates statistics once
        return checkpoint(forward, block, *inputs, use_reentrant=False, **named)
    context_fn = partial(_contexts, block)
    return checkpoint(forward, block, *inputs, use_reentrant=False, context_fn=context_fn, **named)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _buffers_at_rest(block)


@contextmanager
def _buffers_at_rest(block: nn.Module) -> Iterator[None]:
    """Lends the second pass copies, because the running statistics counted the batch in the forward pass already."""
    own = [(module, name, buffer) for module in block.modules() for name, buffer in module.named_buffers(recurse=False)]
    for module, name, buffer in own:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in own:
            setattr(module, name, buffer)
