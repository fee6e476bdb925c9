"""Strides turned into dilation, so that a classification network keeps a fine output."""

from collections.abc import Sequence

from torch import nn


def stride_to_dilation(stage: nn.Module, before: int, after: int) -> None:
    """Takes the stride out of a stage in place; what it saw before, it sees again by dilation.

    Convolutions up to the one that lost its stride are dilated by `before`, the later ones by `after`: the convention
    of torchvision's `replace_stride_with_dilation`, here for every kind of block. Several may lose their stride, in
    branches side by side.
    """
    rate = before
    for conv in stage.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        if conv.stride != (1, 1):
            conv.stride = (1, 1)
            dilate(conv, before)
            rate = after
        else:
            dilate(conv, rate)


def dilate(conv: nn.Conv2d, rate: int) -> None:
    """Spreads the kernel, and pads so that the size stays; 1x1 kernels have nothing to spread."""
    if conv.kernel_size != (1, 1):
        conv.dilation = (rate, rate)
        conv.padding = tuple(rate * (size // 2) for size in conv.kernel_size)


def dilate_to(output_stride: int, stages: Sequence[nn.Module]) -> None:
    """Makes the stages that would end at strides 16 and 32 end at `output_stride` (8, 16 or 32).

    Raises:
        ValueError: another output stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    stride_16, stride_32 = stages
    if output_stride == 8:
        stride_to_dilation(stride_16, 1, 2)
        stride_to_dilation(stride_32, 2, 4)
    elif output_stride == 16:
        stride_to_dilation(stride_32, 1, 2)


def set_norm_momentum(module: nn.Module, momentum: float) -> None:
    """How fast the running statistics follow the batches (PyTorch's meaning: the share of the new batch)."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum
