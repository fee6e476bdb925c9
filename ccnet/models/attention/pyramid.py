"""The levels of a feature pyramid, each told what the coarser ones know."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.attention.dual import initialize

Features = TypeVar("Features", list[Tensor], OrderedDict[str, Tensor])


class PyramidFusion(nn.Module):
    """From coarse to fine, each level plus the nearest-neighbour up-sampled fused level above it (arXiv:1612.03144).

    Every level keeps its shape. Where two neighbours differ in channels, a 1x1 convolution brings the coarser one to
    those of the finer.

    Args:
        channels: of each level, from fine to coarse.

    Raises:
        ValueError: fewer than two levels.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"a pyramid has two levels or more, got channels={list(channels)}")
        self.to_finer = nn.ModuleList(
            nn.Identity() if coarse == fine else nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels)
        )
        initialize(self)

    def forward(self, features: Features) -> Features:
        """Features (B, C, h, w) from fine to coarse, as a list (our backbones') or an OrderedDict (torchvision's FPN)
        -> the same kind with the same shapes.

        Raises:
            ValueError: another number of levels.
        """
        levels = list(features.values()) if isinstance(features, OrderedDict) else list(features)
        if len(levels) != len(self.to_finer) + 1:
            raise ValueError(f"{len(levels)} levels were given to a fusion of {len(self.to_finer) + 1}")
        for index in reversed(range(len(self.to_finer))):
            above = self.to_finer[index](levels[index + 1])
            levels[index] = levels[index] + F.interpolate(above, levels[index].shape[-2:], mode="nearest")
        if isinstance(features, OrderedDict):
            return OrderedDict(zip(features, levels, strict=True))
        return levels
