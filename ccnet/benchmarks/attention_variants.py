"""What is measured of attention: our backends, other people's modules, non-local attention, and the bare products."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

import torch
from torch import nn

from ccnet.benchmarks.textbook_attention import TextbookCrissCrossAttention, TextbookNonLocal
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.layers.non_local import NonLocalAttention
from ccnet.models.ops.criss_cross import Backend

Shape = tuple[int, int, int, int]

MMCV_NCHW = "mmcv NCHW"
COMPILED = "compiled reference"


def has_mmcv() -> bool:
    """Whether mmcv-lite (or mmcv) can be imported."""
    return importlib.util.find_spec("mmcv") is not None


def make_module(variant: str, channels: int) -> nn.Module:
    """A module by its name in the tables; gamma is 0.5, all have the same weights."""
    torch.manual_seed(0)
    ours = CrissCrossAttention(channels, backend="reference")
    nn.init.constant_(ours.gamma, 0.5)
    if variant == COMPILED:
        return cast(nn.Module, torch.compile(ours))
    if variant in get_args(Backend):
        ours.backend = cast(Backend, variant)
        return ours
    peer = PEERS[variant](channels)
    _copy_weights(ours, peer)
    return peer


@functools.cache
def mmcv_class() -> Callable[[int], nn.Module]:
    """mmcv's own module. Its file is loaded alone, because `mmcv.ops` around it needs compiled operators.

    Raises:
        ModuleNotFoundError: mmcv-lite is not installed.
    """
    package = importlib.util.find_spec("mmcv")
    if package is None or package.origin is None:
        raise ModuleNotFoundError('mmcv is not installed: pip install -e ".[benchmark]"')
    path = Path(package.origin).parent / "ops" / "cc_attention.py"
    spec = importlib.util.spec_from_file_location("mmcv_cc_attention", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Callable[[int], nn.Module], module.CrissCrossAttention)


def _copy_weights(ours: nn.Module, peer: nn.Module) -> None:
    theirs = peer.state_dict()
    for name, value in ours.state_dict().items():
        target = theirs[name if name in theirs else f"{name}.scale"]  # mmcv's gamma is a module, without a dimension
        target.copy_(value.reshape(target.shape))


PEERS: dict[str, Callable[[int], nn.Module]] = {
    "textbook": TextbookCrissCrossAttention,
    "mmcv": lambda channels: mmcv_class()(channels),
    MMCV_NCHW: lambda channels: mmcv_class()(channels),
    "non-local": NonLocalAttention,
    "non-local textbook": TextbookNonLocal,
    "non-local sdpa": functools.partial(NonLocalAttention, form="sdpa"),
}


def matrix_products(shape: Shape, backward: bool, device: str, dtype: torch.dtype) -> Callable[[], object]:
    """Only the matrix products of criss-cross attention: the floor under any form that computes them one by one.

    Operands are contiguous and results go to memory that is there already, so nothing is copied or allocated. Backward
    adds two products of the same size for each, and the affinities once more, as forms do that do not keep them.

    Args:
        shape: of the input, (B, C, H, W), of which C/8 are channels of query and key.
        backward: whether to add the backward pass.
        device, dtype: of the operands.
    """
    batch, channels, height, width = shape
    depth = channels // 8
    projection = ((batch * height * width, channels), (channels, channels + 2 * depth))
    row_affinity = ((batch * height, width, depth), (batch * height, depth, width))
    column_affinity = ((batch * width, height, depth), (batch * width, depth, height))
    row_aggregation = ((batch * height, width, width), (batch * height, width, channels))
    column_aggregation = ((batch * width, height, height), (batch * width, height, channels))

    def operands(sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> list[torch.Tensor]:
        left, right = (torch.randn(size, device=device).to(dtype) for size in sizes)
        return [left, right, left @ right, torch.empty_like(left), torch.empty_like(right)]

    affinities = [operands(sizes) for sizes in (row_affinity, column_affinity)]
    products = [operands(projection), *affinities, operands(row_aggregation), operands(column_aggregation)]

    def forward() -> None:
        for left, right, out, *_ in products:
            torch.matmul(left, right, out=out)

    def forward_backward() -> None:
        forward()
        for left, right, out, *_ in affinities:
            torch.matmul(left, right, out=out)
        for left, right, out, left_gradient, right_gradient in products:
            torch.matmul(out, right.mT, out=left_gradient)
            torch.matmul(left.mT, out, out=right_gradient)

    return forward_backward if backward else forward
