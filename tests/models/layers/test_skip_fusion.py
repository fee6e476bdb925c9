"""A fine feature joins a coarse map."""

import pytest
import torch
from torch.nn import functional as F

from ccnet.models.layers.skip_fusion import SkipFusion


@pytest.mark.parametrize("separable", [False, True])
def test_fusion_of_the_upsampled_map_and_the_projected_feature(separable: bool) -> None:
    """Oracle: interpolate, project, concatenate (coarse first) and convolve by hand."""
    torch.manual_seed(0)
    skip = SkipFusion(6, 4, 3, 5, separable).eval()
    coarse, fine = torch.randn(2, 6, 3, 2), torch.randn(2, 4, 7, 5)
    projected = F.relu(skip.projection[1](F.conv2d(fine, skip.projection[0].weight)))
    upsampled = F.interpolate(coarse, (7, 5), mode="bilinear")
    out = skip(coarse, fine)
    assert out.shape == (2, 5, 7, 5)
    torch.testing.assert_close(out, skip.fusion(torch.cat([upsampled, projected], dim=1)))


def test_separable_convolution_is_depthwise_then_pointwise() -> None:
    """Oracle: the number of weights of a 3x3 kernel per channel and a 1x1 kernel over channels."""
    weights = [p.numel() for p in SkipFusion(6, 4, 3, 5, True).fusion.parameters() if p.ndim == 4]
    assert weights == [9 * 9, 9 * 5]
