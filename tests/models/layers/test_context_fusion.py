"""Context and backbone feature joined."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ccnet.models.layers.context_fusion import ContextFusion
from ccnet.models.layers.conv import Activation


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.01)])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("num_convs", [0, 1, 2])
def test_by_hand(kernel_size: int, num_convs: int, activation: Activation, slope: float) -> None:
    """Oracle: convolution, new batch normalisation and activation by torch.nn.functional; the feature comes first."""
    torch.manual_seed(0)
    fusion = ContextFusion(6, 4, num_convs, kernel_size, activation).eval()
    feature, context = torch.randn(2, 6, 5, 3), torch.randn(2, 4, 5, 3)

    def conv(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return F.leaky_relu(F.conv2d(x, layer.weight, padding=kernel_size // 2) / (1 + 1e-5) ** 0.5, slope)

    expected = torch.cat([feature, conv(context, fusion.context[0])], dim=1)
    for layer in fusion.convs:
        expected = conv(expected, layer[0])
    assert fusion.out_channels == expected.shape[1] == (4 if num_convs else 10)
    torch.testing.assert_close(fusion(feature, context), expected)
