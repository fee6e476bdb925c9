"""Attention layers by the names that a configuration has for them."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from ccnet.models.attention.dual import ChannelAttention, DualAttention
from ccnet.models.attention.residual import ResidualAttention
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention

Kind = Literal["dual", "dual_light", "channel", "criss_cross"]
Preset = Literal["classification", "detection", "segmentation"]

# Strengths (alpha of the spatial gate, beta of the channel gate): the finer the answer, the more the place counts.
PRESETS: Mapping[Preset, tuple[float, float]] = {
    "classification": (0.3, 0.7),
    "detection": (0.7, 0.5),
    "segmentation": (0.8, 0.3),
}


def make_attention(
    channels: int,
    kind: Kind = "dual",
    preset: Preset | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    reduction: int | None = None,
    dropout: float | None = None,
    residual: bool = False,
) -> nn.Module:
    """A layer (B, C, H, W) -> (B, C, H, W).

    Args:
        channels: of the feature map.
        kind: dual (`DualAttention`), dual_light (the same for mobile networks), channel (`ChannelAttention`) or
            criss_cross (`CrissCrossAttention`, the identity as long as its gamma is 0).
        preset: strengths for a task; null takes alpha and beta.
        alpha: strength of the spatial gate; null is 1.
        beta: strength of the channel gate; null is 1.
        reduction: of the channels; null is 16 for dual_light and 8 for the others.
        dropout: share of the channels that is dropped while training; null is 0.1.
        residual: x + conv(attention(x)) in place of attention(x).

    Raises:
        ValueError: an unknown kind or preset, an argument that the kind does not read, or a value out of range.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind}")
    _refuse_idle(kind, preset, alpha, beta, dropout)
    if reduction is None:
        reduction = 16 if kind == "dual_light" else 8
    if preset is not None:
        alpha, beta = PRESETS[preset]
    alpha, beta = (1.0 if strength is None else strength for strength in (alpha, beta))
    dropout = 0.1 if dropout is None else dropout
    attention: nn.Module
    if kind == "criss_cross":
        attention = CrissCrossAttention(channels, reduction)
    elif kind == "channel":
        attention = ChannelAttention(channels, reduction, beta, dropout)
    else:
        attention = DualAttention(channels, reduction, alpha, beta, dropout, light=kind == "dual_light")
    return ResidualAttention(channels, attention) if residual else attention


def _refuse_idle(
    kind: Kind, preset: Preset | None, alpha: float | None, beta: float | None, dropout: float | None
) -> None:
    """Refuses what the kind would not read."""
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {preset}")
    if preset is not None and (alpha is not None or beta is not None):
        raise ValueError(f"preset={preset} sets alpha and beta; set the preset or the strengths")
    given = {"preset": preset, "alpha": alpha, "beta": beta, "dropout": dropout}
    idle = {"criss_cross": list(given), "channel": ["alpha"]}.get(kind, [])
    for name in idle:
        if given[name] is not None:
            raise ValueError(f"{name}={given[name]} does nothing to {kind} attention; leave it out")
