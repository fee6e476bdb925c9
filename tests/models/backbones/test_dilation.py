"""Strides turned into dilation."""

import pytest
import torch
from torch import nn

from ccnet.models.backbones.dilation import dilate_to, set_norm_momentum, stride_to_dilation


def stage(kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 3, 1, bias=False),
        nn.Conv2d(3, 3, kernel, stride=2, padding=kernel // 2),
        nn.Conv2d(3, 2, kernel, padding=kernel // 2),
    )


def two_stages(output_stride: int, kernel: int) -> nn.Sequential:
    torch.manual_seed(0)
    stages = nn.Sequential(stage(kernel), stage(kernel))
    dilate_to(output_stride, list(stages))
    return stages.double()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("output_stride", "step"), [(8, 4), (16, 2), (32, 1)])
def test_the_strided_network_is_sampled_from_the_dilated_one(output_stride: int, step: int, kernel: int) -> None:
    """Oracle: the untouched network; its output is every `step`-th position of the dilated one (a trous)."""
    image = torch.randn(1, 2, 19, 22, dtype=torch.float64)
    untouched, dilated = two_stages(32, kernel)(image), two_stages(output_stride, kernel)(image)
    torch.testing.assert_close(dilated[..., ::step, ::step], untouched)
    assert dilated.shape[-2:] == tuple(-(-side * step // 4) for side in (19, 22))


def test_dilation_before_and_after_the_lost_stride() -> None:
    """Oracle: the docstring: up to the strided convolution `before`, later `after`; 1x1 convolutions stay."""
    convs = stage(5)
    stride_to_dilation(convs, 2, 4)
    assert [conv.dilation for conv in convs] == [(1, 1), (2, 2), (4, 4)]
    assert [conv.padding for conv in convs] == [(0, 0), (4, 4), (8, 8)]
    assert {conv.stride for conv in convs} == {(1, 1)}


@pytest.mark.parametrize("output_stride", [4, 0, 64])
def test_other_output_strides_are_refused(output_stride: int) -> None:
    """Oracle: the documented ValueError."""
    with pytest.raises(ValueError, match=f"8, 16 or 32, got {output_stride}"):
        dilate_to(output_stride, [stage(), stage()])


def test_norm_momentum_reaches_nested_norms() -> None:
    """Oracle: PyTorch's running mean: (1 - m) * old + m * batch mean."""
    norm = nn.BatchNorm2d(1)
    set_norm_momentum(nn.Sequential(nn.Sequential(norm)), 0.25)
    norm(torch.full((2, 1, 2, 2), 8.0))
    assert norm.running_mean is not None
    assert norm.running_mean.item() == pytest.approx(2.0)
