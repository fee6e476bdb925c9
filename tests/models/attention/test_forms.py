"""Attention by name."""

from typing import Any

import pytest
import torch
from torch import nn

from ccnet.models.attention.dual import ChannelAttention, DualAttention
from ccnet.models.attention.forms import make_attention
from ccnet.models.attention.residual import ResidualAttention
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention


@pytest.mark.parametrize(
    ("kind", "made", "reduced", "activations"),
    [
        ("dual", DualAttention, 8, {nn.ReLU, nn.Sigmoid}),
        ("dual_light", DualAttention, 4, {nn.Hardswish, nn.Hardsigmoid}),
        ("channel", ChannelAttention, 8, {nn.ReLU, nn.Sigmoid}),
        ("criss_cross", CrissCrossAttention, 8, set()),
    ],
)
def test_kinds(kind: Any, made: type[nn.Module], reduced: int, activations: set[type[nn.Module]]) -> None:
    """Oracle: the published reductions and activations; all keep the shape."""
    layer = make_attention(64, kind)
    assert type(layer) is made
    first = layer.query_conv if isinstance(layer, CrissCrossAttention) else layer.channel_gate[1]
    assert first.out_channels == reduced
    assert activations <= {type(module) for module in layer.modules()}
    x = torch.randn(2, 64, 3, 5)
    assert layer(x).shape == x.shape
    assert make_attention(64, kind, reduction=2).state_dict().keys() == layer.state_dict().keys()


@pytest.mark.parametrize(
    ("preset", "beta", "alpha"), [("classification", 0.7, 0.3), ("detection", 0.5, 0.7), ("segmentation", 0.3, 0.8)]
)
def test_presets(preset: Any, beta: float, alpha: float) -> None:
    """Oracle: the published strengths, beta of the channel gate and alpha of the spatial gate."""
    layer = make_attention(8, preset=preset)
    assert (layer.beta, layer.alpha) == (beta, alpha)
    assert make_attention(8, "channel", preset=preset).beta == beta


def test_null_is_the_default_of_the_layer() -> None:
    """Oracle: the bare gates and the published dropout; what is said is taken."""
    layer = make_attention(8)
    assert (layer.alpha, layer.beta, layer.dropout.p) == (1, 1, 0.1)
    layer = make_attention(8, "dual_light", alpha=0.25, beta=0, dropout=0)
    assert (layer.alpha, layer.beta, layer.dropout.p) == (0.25, 0, 0)


@pytest.mark.parametrize("kind", ["dual", "dual_light", "channel", "criss_cross"])
def test_residual(kind: Any) -> None:
    """Oracle: x + conv(attention(x)), by the parts."""
    layer = make_attention(16, kind, residual=True).eval()
    assert isinstance(layer, ResidualAttention)
    x = torch.randn(2, 16, 3, 2)
    torch.testing.assert_close(layer(x), x + torch.conv2d(layer.attention(x), layer.conv.weight, layer.conv.bias))
    assert layer.conv.weight.std().item() == pytest.approx((2 / 16) ** 0.5, rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "dula"}, "kind must be one of dual, dual_light, channel, criss_cross, got dula"),
        ({"preset": "depth"}, "preset must be one of classification, detection, segmentation, got depth"),
        ({"preset": "detection", "beta": 0.5}, "preset=detection sets alpha and beta"),
        ({"preset": "detection", "alpha": 0.0}, "preset=detection sets alpha and beta"),
        ({"kind": "channel", "alpha": 0.5}, "alpha=0.5 does nothing to channel attention"),
        ({"kind": "criss_cross", "preset": "detection"}, "preset=detection does nothing to criss_cross attention"),
        ({"kind": "criss_cross", "beta": 0.0}, "beta=0.0 does nothing to criss_cross attention"),
        ({"kind": "criss_cross", "dropout": 0.0}, "dropout=0.0 does nothing to criss_cross attention"),
        ({"kind": "criss_cross", "reduction": 3}, "channels must be a multiple of reduction=3"),
        ({"alpha": 2.0}, "alpha must lie in 0..1, got 2.0"),
    ],
)
def test_what_would_not_be_read_is_refused(arguments: dict[str, Any], message: str) -> None:
    """Oracle: the documented errors."""
    with pytest.raises(ValueError, match=message):
        make_attention(8, **arguments)
