"""Attention layers that plug into a network which knows nothing of them."""

from ccnet.models.attention.dual import ChannelAttention, DualAttention
from ccnet.models.attention.forms import PRESETS, make_attention
from ccnet.models.attention.insertion import attach, insert_attention, insert_layers
from ccnet.models.attention.pyramid import PyramidFusion
from ccnet.models.attention.residual import ResidualAttention

__all__ = [
    "PRESETS",
    "ChannelAttention",
    "DualAttention",
    "PyramidFusion",
    "ResidualAttention",
    "attach",
    "insert_attention",
    "insert_layers",
    "make_attention",
]
