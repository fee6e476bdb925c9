"""VGG's pools that keep the size, and its pools at odd sizes; test_features.py holds the rest against torchvision."""

import pytest
import torch
from torch.nn import functional as F

from ccnet.models.backbones.vgg import VGG16, DilatedMaxPool


@pytest.mark.parametrize("size", [(7, 10), (8, 5), (1, 1)])
def test_a_dilated_pool_holds_the_strided_one(size: tuple[int, int]) -> None:
    """Oracle: F.max_pool2d with stride 2 that rounds up, at every second position; two of them at every fourth.
    The input is negative, where zeros as padding would win."""
    x = -torch.rand(2, 3, *size) - 1
    once, strided = DilatedMaxPool(1)(x), F.max_pool2d(x, 2, 2, ceil_mode=True)
    assert once.shape == x.shape
    assert torch.equal(once[..., ::2, ::2], strided)
    twice, strided = DilatedMaxPool(2)(once), F.max_pool2d(strided, 2, 2, ceil_mode=True)
    assert torch.equal(twice[..., ::4, ::4], strided)


def test_odd_sizes_are_sampled_too() -> None:
    """Oracle: the network at stride 32, whose parameters it takes; every position of it is one of the dilated."""
    strided = VGG16(output_stride=32).eval()
    with torch.device("meta"):
        dilated = VGG16(output_stride=8).eval()
    dilated.load_state_dict(strided.state_dict(), assign=True)
    image = torch.randn(1, 3, 67, 41)
    with torch.no_grad():
        left, right = dilated(image)[-1][..., ::4, ::4], strided(image)[-1]
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5 * float(right.abs().max()))


def test_convolutions_behind_a_pool_that_lost_its_stride_are_dilated() -> None:
    """Oracle: DeepLab's table: conv5 is dilated by two at output stride 8, and nothing at 16 and 32."""
    with torch.device("meta"):
        rates = {stride: [m.dilation[0] for m in VGG16(output_stride=stride).features if isinstance(m, torch.nn.Conv2d)]
                 for stride in (8, 16, 32)}  # type: ignore[arg-type]  # fmt: skip
    assert rates == {8: [1] * 10 + [2] * 3, 16: [1] * 13, 32: [1] * 13}
