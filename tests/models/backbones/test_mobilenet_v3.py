"""MobileNetV3 against torchvision's network."""

from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from ccnet.models.backbones.mobilenet_v3 import MobileNetV3

VARIANTS = ("large", "small")


def without_squeeze(network: nn.Module) -> nn.Module:
    """Squeeze-and-excitation averages over all positions, so that no stride can be taken out exactly."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, SqueezeExcitation):
                setattr(module, name, nn.Identity())
    return network.eval()


def pair(variant: str, output_stride: int, last_conv: bool = True) -> tuple[MobileNetV3, nn.Sequential]:
    """Our backbone and torchvision's features with the same weights, by order."""
    torch.manual_seed(0)
    backbone = MobileNetV3(variant, output_stride, last_conv)  # type: ignore[arg-type]
    blocks = getattr(torchvision.models, f"mobilenet_v3_{variant}")().features
    blocks = blocks if last_conv else blocks[:-1]
    state = zip(blocks.state_dict(), backbone.state_dict().values(), strict=True)
    blocks.load_state_dict(dict(state))
    return backbone, blocks


def blocks_output(blocks: nn.Sequential, image: Tensor) -> list[Tensor]:
    """The last output at each of the strides 4, 8, 16 and 32; those at 1 and 2 left out."""
    outputs = [image]
    for block in blocks:
        outputs.append(block(outputs[-1]))
    ends = [a for a, b in pairwise(outputs) if a.shape[-1] != b.shape[-1]]
    return [*ends[2:], outputs[-1]]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("last_conv", [True, False])
def test_untouched_at_stride_32(variant: str, last_conv: bool) -> None:
    """Oracle: torchvision's own blocks with the same weights."""
    backbone, blocks = pair(variant, 32, last_conv)
    image = torch.randn(1, 3, 97, 75)
    with torch.no_grad():
        ours, theirs = backbone.eval()(image), blocks_output(blocks.eval(), image)
    for feature, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(feature, expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("output_stride", "strides"), [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16))])
def test_sizes_and_receptive_field(variant: str, output_stride: int, strides: tuple[int, ...]) -> None:
    """Oracle: ceil(n / stride); without squeeze-and-excitation every (32 / stride)-th position is the untouched
    torchvision network's (a trous)."""
    backbone, blocks = pair(variant, output_stride)
    image = torch.randn(1, 3, 97, 75)
    with torch.no_grad():
        ours, theirs = without_squeeze(backbone)(image), blocks_output(without_squeeze(blocks), image)
    for feature, expected, stride, full in zip(ours, theirs, strides, (4, 8, 16, 32), strict=True):
        assert feature.shape[-2:] == (-(-97 // stride), -(-75 // stride))
        sampled = feature[..., :: full // stride, :: full // stride]
        torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert backbone.output_stride == output_stride


@pytest.mark.parametrize(
    ("variant", "last_conv", "last"), [("large", True, 960), ("large", False, 160), ("small", True, 576),
                                       ("small", False, 96)],
)  # fmt: skip
def test_out_channels_are_the_real_ones(variant: str, last_conv: bool, last: int) -> None:
    """Oracle: the features' own shapes, the last as in Tables 1 and 2 of the paper."""
    backbone, _ = pair(variant, 16, last_conv)
    channels = [feature.shape[1] for feature in backbone.eval()(torch.zeros(1, 3, 33, 33))]
    assert backbone.out_channels == channels
    assert channels[-1] == last


def test_norm_momentum_reaches_every_norm() -> None:
    """Oracle: the number of batch norms of torchvision's network."""
    backbone = MobileNetV3("small", norm_momentum=0.2)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    blocks = torchvision.models.mobilenet_v3_small().features
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in blocks.modules())
    assert {norm.momentum for norm in norms} == {0.2}
