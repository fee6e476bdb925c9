"""Criss-cross attention as a pure function.

Shape suffixes: B batch, D channels of query and key, C channels of value, H height, W width; a doubled letter is
(position, attended position); K = H + W, the column's positions first, then the row's.
"""

import torch
from torch import Tensor


def criss_cross_attention(query_BDHW: Tensor, key_BDHW: Tensor, value_BCHW: Tensor) -> Tensor:
    """Each position gathers the values of its own row and column (CCNet Eq. 1-2, arXiv:1811.11721).

    The logits are plain products without scaling; one softmax runs over the H + W - 1 positions of the cross, the own
    position counted once, in the row. Logits and softmax are at least float32, whatever the input and autocast.

    Args:
        query_BDHW, key_BDHW: (B, D, H, W), any H, W >= 1.
        value_BCHW: (B, C, H, W).

    Returns:
        (B, C, H, W) in the dtype of the value.
    """
    height, width = query_BDHW.shape[-2:]
    with torch.autocast(query_BDHW.device.type, enabled=False):
        exact = torch.promote_types(query_BDHW.dtype, torch.float32)
        query_BHWD = query_BDHW.permute(0, 2, 3, 1).to(exact)
        key_BHWD = key_BDHW.permute(0, 2, 3, 1).to(exact)
        column_BWHH = query_BHWD.transpose(1, 2) @ key_BHWD.permute(0, 2, 3, 1)
        row_BHWW = query_BHWD @ key_BHWD.transpose(2, 3)
        index_H = torch.arange(height, device=query_BDHW.device)
        column_BWHH = column_BWHH.masked_fill(index_H[:, None] == index_H, float("-inf"))
        attention_BHWK = torch.cat([column_BWHH.transpose(1, 2), row_BHWW], dim=-1).softmax(dim=-1)
        attention_BHWK = attention_BHWK.to(value_BCHW.dtype)
        to_column_BHWH, to_row_BHWW = attention_BHWK.split([height, width], dim=-1)
        value_BHWC = value_BCHW.permute(0, 2, 3, 1)
        from_column_BWHC = to_column_BHWH.transpose(1, 2) @ value_BHWC.transpose(1, 2)
        out_BHWC = to_row_BHWW @ value_BHWC + from_column_BWHC.transpose(1, 2)
    return out_BHWC.permute(0, 3, 1, 2)
