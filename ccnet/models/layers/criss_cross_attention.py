"""The criss-cross attention module of CCNet, with the parameter names of the official code."""

import torch
from torch import Tensor, nn

from ccnet.models.ops.criss_cross import criss_cross_attention


class CrissCrossAttention(nn.Module):
    """y = gamma * attention(x) + x (CCNet Sec. 3.2). `gamma` starts at 0, so a new module is the identity.

    Raises:
        ValueError: `channels` is not divisible by `reduction`.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        if channels < reduction or channels % reduction:
            raise ValueError(f"channels must be a multiple of reduction={reduction}, got {channels}")
        self.query_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.key_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        attended_BCHW = criss_cross_attention(self.query_conv(x_BCHW), self.key_conv(x_BCHW), self.value_conv(x_BCHW))
        return self.gamma * attended_BCHW + x_BCHW
