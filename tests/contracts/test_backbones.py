"""What the heads rely on, for every backbone that YAML offers."""

import pytest
import torch
from torch import nn

from ccnet.build import build_part
from tests.contracts.conftest import names, part

BACKBONES = names("backbone", long=("resnet50", "resnet101"))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_channels_and_stride_are_the_declared_ones(name: str, stride: int) -> None:
    """Oracle: the shapes at an odd size, ceil(side / stride)."""
    backbone: nn.Module = build_part({**part("backbone", name), "output_stride": stride}).eval()
    features = backbone(torch.randn(1, 3, 67, 97))
    assert [feature.shape[1] for feature in features] == list(backbone.out_channels)
    strides = [min(stride, full) for full in (4, 8, 16, 32)]
    assert [tuple(f.shape[2:]) for f in features] == [(-(-67 // s), -(-97 // s)) for s in strides]
    assert backbone.output_stride == stride


@pytest.mark.parametrize("name", BACKBONES)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    """Oracle: a gradient that is there and not all zero; DistributedDataParallel wants it too."""
    backbone: nn.Module = build_part(part("backbone", name))
    features = backbone(torch.randn(2, 3, 64, 96))
    # Squares: the sum of what a batch normalisation gives is constant.
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    without = [key for key, value in backbone.named_parameters() if value.grad is None]
    assert without == []


@pytest.mark.parametrize("name", BACKBONES)
def test_the_state_dict_comes_back(name: str) -> None:
    """Oracle: the answer of the first network from the second one's random weights."""
    first, second = (build_part(part("backbone", name)).eval() for _ in range(2))
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 33, 47)
    for left, right in zip(first(image), second(image), strict=True):
        assert torch.equal(left, right)
