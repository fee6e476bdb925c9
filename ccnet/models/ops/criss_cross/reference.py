"""Criss-cross attention as the paper states it (CCNet Eq. 1-2, arXiv:1811.11721): to be held against it at sight.

Shape suffixes: B batch, D channels of query and key, C channels of value, H height, W width; a doubled letter is
(position, attended position); K = H + W, the column's positions first, then the row's.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.models.ops.criss_cross.projections import Projections


def affinity(query_BDHW: Tensor, key_BDHW: Tensor) -> Tensor:
    """How much each position attends to the positions of its column and row (Eq. 1).

    Plain products without scaling; one softmax over the H + W - 1 positions of the cross. The own position counts once,
    in the row: in the column its weight is 0. Products and softmax are at least float32, whatever the input
    and autocast.

    Args:
        query_BDHW, key_BDHW: (B, D, H, W), any H, W >= 1.

    Returns:
        (B, H, W, H + W): weights of the column's positions, then of the row's; each position's sum to one.
    """
    with torch.autocast(query_BDHW.device.type, enabled=False):
        exact = torch.promote_types(query_BDHW.dtype, torch.float32)
        query_BHWD = query_BDHW.permute(0, 2, 3, 1).to(exact)
        key_BHWD = key_BDHW.permute(0, 2, 3, 1).to(exact)
        column_BWHH = query_BHWD.transpose(1, 2) @ key_BHWD.permute(0, 2, 3, 1)
        row_BHWW = query_BHWD @ key_BHWD.transpose(2, 3)
        index_H = torch.arange(query_BHWD.shape[1], device=query_BDHW.device)
        column_BWHH = column_BWHH.masked_fill(index_H[:, None] == index_H, float("-inf"))
        return torch.cat([column_BWHH.transpose(1, 2), row_BHWW], dim=-1).softmax(dim=-1)


def aggregation(attention_BHWK: Tensor, value_BCHW: Tensor) -> Tensor:
    """The weighted sum of each position's column and row (Eq. 2): (B, H, W, H + W), (B, C, H, W) -> (B, C, H, W)."""
    to_column_BHWH, to_row_BHWW = attention_BHWK.to(value_BCHW.dtype).split(value_BCHW.shape[2:], dim=-1)
    value_BHWC = value_BCHW.permute(0, 2, 3, 1)
    from_column_BWHC = to_column_BHWH.transpose(1, 2) @ value_BHWC.transpose(1, 2)
    return (to_row_BHWW @ value_BHWC + from_column_BWHC.transpose(1, 2)).permute(0, 3, 1, 2)


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """x + gamma * (the aggregated values), its products in `dtype`; differentiable any number of times."""
    query, key, value = project(x_BCHW.to(dtype), projections)
    attended = aggregation(affinity(query, key), value)
    return (x_BCHW + projections.gamma * attended).to(x_BCHW.dtype)


def project(x_BCHW: Tensor, projections: Projections) -> list[Tensor]:
    """Query and key (B, D, H, W), and value (B, C, H, W), in the dtype of x."""
    pairs = (
        (projections.query_weight, projections.query_bias),
        (projections.key_weight, projections.key_bias),
        (projections.value_weight, projections.value_bias),
    )
    return [
        F.conv2d(x_BCHW, weight.to(x_BCHW.dtype)[:, :, None, None], bias.to(x_BCHW.dtype)) for weight, bias in pairs
    ]
