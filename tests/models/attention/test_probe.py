"""Shapes that parts of a network take and give, without the rest of it."""

import pytest
import torch
from torch import Tensor, nn

from ccnet.models.attention.probe import SIDE, shapes


class Split(nn.Module):
    """A block whose convolution sees half of the channels, as ShuffleNetV2's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        if right.shape[1] != self.conv.in_channels:
            raise ValueError(f"{right.shape[1]} channels")
        return torch.cat([left, self.conv(right)], dim=1)


@pytest.mark.parametrize("name", ["0", "1", "2", "3"])
def test_blocks_that_split(name: str) -> None:
    """Oracle: the channels by hand, which the blocks' own convolutions do not tell."""
    series = nn.Sequential(nn.Conv2d(3, 8, 1), Split(8), nn.ReLU(), Split(8))
    taken = 3 if name == "0" else 8
    assert shapes(series, name) == ((2, taken, SIDE, SIDE), (2, 8, SIDE, SIDE))


@pytest.mark.parametrize(("width", "name"), [(8, "0"), (8, "1"), (16, "1")])
def test_blocks_that_split_behind_nothing_that_tells(width: int, name: str) -> None:
    """Oracle: by hand: what the named block gets when it runs alone, not what fails before it."""
    with pytest.raises(ValueError, match=r"Split cannot run on a feature map alone: 2 channels$"):
        shapes(nn.Sequential(Split(width), Split(8)), name)


def test_a_module_runs_alone_where_it_can() -> None:
    """Oracle: the shapes by hand; what is before it does not run, not even where it would fail."""
    series = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(8, 6, 1, stride=2))
    assert shapes(series, "1") == ((2, 8, SIDE, SIDE), (2, 6, SIDE // 2, SIDE // 2))
