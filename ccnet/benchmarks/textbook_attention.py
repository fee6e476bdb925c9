"""Attention as published tutorials write it: the peers that everybody has at hand, slow and large."""

import torch
from torch import Tensor, nn


def infinite_diagonal(batch: int, size: int, device: torch.device) -> Tensor:
    """(batch, size, size): -inf on the diagonals, 0 elsewhere, so that a column leaves out the own position."""
    return -torch.diag(torch.tensor(float("inf"), device=device).repeat(size), 0).unsqueeze(0).repeat(batch, 1, 1)


class TextbookCrissCrossAttention(nn.Module):
    """The attention of `ccnet.models.layers.criss_cross_attention`, with its parameter names, the tutorials' way.

    Rows and columns become batches of copied matrices: (B*W, C, H) for the columns, (B*H, C, W) for the rows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, _, height, width = x.shape
        query, key, value = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        query_H, key_H, value_H = (
            part.permute(0, 3, 1, 2).contiguous().view(batch * width, -1, height) for part in (query, key, value)
        )
        query_W, key_W, value_W = (
            part.permute(0, 2, 1, 3).contiguous().view(batch * height, -1, width) for part in (query, key, value)
        )
        energy_H = torch.bmm(query_H.permute(0, 2, 1), key_H) + infinite_diagonal(batch * width, height, x.device)
        energy_H = energy_H.view(batch, width, height, height).permute(0, 2, 1, 3)
        energy_W = torch.bmm(query_W.permute(0, 2, 1), key_W).view(batch, height, width, width)
        attention = torch.softmax(torch.cat([energy_H, energy_W], dim=3), dim=3)
        attention_H = attention[..., :height].permute(0, 2, 1, 3).contiguous().view(batch * width, height, height)
        attention_W = attention[..., height:].contiguous().view(batch * height, width, width)
        out_H = torch.bmm(value_H, attention_H.permute(0, 2, 1)).view(batch, width, -1, height).permute(0, 2, 3, 1)
        out_W = torch.bmm(value_W, attention_W.permute(0, 2, 1)).view(batch, height, -1, width).permute(0, 2, 1, 3)
        return self.gamma * (out_H + out_W) + x


class TextbookNonLocal(nn.Module):
    """`ccnet.models.layers.non_local` with its parameter names, channels first as the tutorials have it.

    The value comes first in the product, so that the gradient of the map arrives transposed and is copied: a fourth map
    beside the weights, their gradient and that of the logits, which is what the CCNet paper's figure counts.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        query, key, value = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        attention = torch.softmax(torch.bmm(query.permute(0, 2, 1), key), dim=-1)
        return self.gamma * torch.bmm(value, attention.permute(0, 2, 1)).view_as(x) + x
