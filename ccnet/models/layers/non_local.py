"""Non-local attention: every position attends to all others, the baseline that criss-cross attention is measured by."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.layers.criss_cross_attention import require_divisible


class NonLocalAttention(nn.Module):
    """y = x + gamma * softmax(q k^T) v over all H W positions (arXiv:1711.07971), with the projections of
    `CrissCrossAttention`, as the CCNet paper compares them: plain products without scaling. `gamma` starts at 0.

    Args:
        channels: of the input.
        reduction: `channels` over those of query and key.
        form: explicit keeps the (H W)^2 attention, the textbook's way; sdpa leaves it to PyTorch's
            scaled_dot_product_attention, which where it can keeps none of it, at the same number of operations or more.

    Raises:
        ValueError: `channels` is not divisible by `reduction`, or an unknown form.
    """

    def __init__(self, channels: int, reduction: int = 8, form: Literal["explicit", "sdpa"] = "explicit") -> None:
        super().__init__()
        if form not in ("explicit", "sdpa"):
            raise ValueError(f"form must be explicit or sdpa, got {form}")
        require_divisible(channels, reduction)
        self.query_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.key_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.form = form

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        query_BPD, key_BPD, value_BPC = (
            conv(x_BCHW).flatten(2).transpose(1, 2) for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        attend = _explicit if self.form == "explicit" else _sdpa
        attended_BPC = attend(query_BPD, key_BPD, value_BPC)
        return x_BCHW + self.gamma * attended_BPC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:])


def _explicit(query_BPD: Tensor, key_BPD: Tensor, value_BPC: Tensor) -> Tensor:
    with torch.autocast(query_BPD.device.type, enabled=False):
        exact = torch.promote_types(query_BPD.dtype, torch.float32)
        attention_BPP = (query_BPD.to(exact) @ key_BPD.to(exact).transpose(1, 2)).softmax(dim=-1)
        return attention_BPP.to(value_BPC.dtype) @ value_BPC


def _sdpa(query_BPD: Tensor, key_BPD: Tensor, value_BPC: Tensor) -> Tensor:
    # Fused kernels want query, key and value of one size; zeros change no product.
    missing = value_BPC.shape[2] - query_BPD.shape[2]
    query, key = (F.pad(tensor, (0, missing))[:, None] for tensor in (query_BPD, key_BPD))
    return F.scaled_dot_product_attention(query, key, value_BPC[:, None], scale=1.0)[:, 0]
