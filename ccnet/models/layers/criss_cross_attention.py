"""The criss-cross attention module of CCNet, with the parameter names of the official code."""

from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn

from ccnet.models.ops.criss_cross import Backend, criss_cross_attention, require_backend
from ccnet.models.ops.criss_cross.projections import Projections
from ccnet.models.ops.criss_cross.reference import affinity


class CrissCrossAttention(nn.Module):
    """y = gamma * attention(x) + x (CCNet Sec. 3.2). `gamma` starts at 0, so a new module is the identity.

    Args:
        channels: of the input.
        reduction: `channels` over those of query and key.
        backend: how it is computed, see `ccnet.models.ops.criss_cross`; all give the same.

    Raises:
        ValueError: `channels` is not divisible by `reduction`; an unknown backend, or triton where there is no CUDA.
    """

    def __init__(self, channels: int, reduction: int = 8, backend: Backend = "auto") -> None:
        super().__init__()
        require_divisible(channels, reduction)
        require_backend(backend)
        if backend == "triton" and not (torch.cuda.is_available() and find_spec("triton")):
            raise ValueError("backend triton needs CUDA and Triton, which are not both here; use backend auto or fused")
        self.query_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.key_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.backend: Backend = backend

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return criss_cross_attention(x_BCHW, self.projections(), self.backend)

    def attention(self, x_BCHW: Tensor) -> Tensor:
        """How much each position attends to its column and row: (B, H, W, H + W), as `reference.affinity` gives it."""
        return affinity(self.query_conv(x_BCHW), self.key_conv(x_BCHW))

    def projections(self) -> Projections:
        """The parameters as the operator takes them."""
        (query, query_bias), (key, key_bias), (value, value_bias) = (
            (conv.weight.flatten(1), cast(Tensor, conv.bias))
            for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        return Projections(query, query_bias, key, key_bias, value, value_bias, self.gamma)


def require_divisible(channels: int, reduction: int) -> None:
    """Raises:
    ValueError: `channels` is not a multiple of `reduction`.
    """
    if reduction < 1 or channels < reduction or channels % reduction:
        raise ValueError(f"channels must be a multiple of reduction={reduction}, got {channels}")
