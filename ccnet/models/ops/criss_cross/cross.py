"""Products along the rows and columns of images: what criss-cross attention and its gradient are made of.

Images lie channels last, so that the rows of an image and its columns are batches of matrices without a copy. Columns
come first wherever both stand side by side. No product writes into a strided `out`: on the CPU that would leave the
batched routine for a loop of small ones.

Shape suffixes: b images, H height, N some of the H rows (the first of them is `top`), W width, C channels, K = H + W,
the positions of a cross: those of the column, then those of the row, the own position in both.
"""

import torch
from torch import Tensor

CACHED = 2**20  # numbers of a temporary that a processor's cache holds: 4 MiB in float32


def products(left_bNWC: Tensor, right_bHWC: Tensor, top: int = 0) -> Tensor:
    """The product of each position with those of its cross: (b, N, W, C), (b, H, W, C) -> (b, N, W, H + W)."""
    column_bWNH = left_bNWC.transpose(1, 2) @ right_bHWC.permute(0, 2, 3, 1)
    row_bNWW = left_bNWC @ _rows(right_bHWC, top, left_bNWC).transpose(2, 3)
    return torch.cat([column_bWNH.transpose(1, 2), row_bNWW], dim=-1)


def affinity(query_bNWD: Tensor, key_bHWD: Tensor, top: int = 0) -> Tensor:
    """The softmax over the cross of each position, the own one counted once, in the row; at least in float32."""
    exact = torch.promote_types(query_bNWD.dtype, torch.float32)
    attention_bNWK = products(query_bNWD.to(exact), key_bHWD.to(exact), top)
    attention_bNWK.diagonal(top, dim1=1, dim2=3).fill_(float("-inf"))
    return attention_bNWK.softmax(dim=-1)


def gather(weight_bNWK: Tensor, value_bHWC: Tensor, out_bNWC: Tensor, top: int = 0) -> None:
    """The weighted sum over each position's cross: (b, N, W, H + W), (b, H, W, C) -> (b, N, W, C)."""
    column_bNWH, row_bNWW = weight_bNWK.split(value_bHWC.shape[1:3], dim=-1)
    _along_both(column_bNWH.transpose(1, 2), row_bNWW, value_bHWC, _rows(value_bHWC, top, out_bNWC), out_bNWC)


def scatter(weight_bHWK: Tensor, value_bHWC: Tensor, out_bHWC: Tensor) -> None:
    """The transposed of `gather` on whole images: each position gives its value, weighted, to its cross."""
    column_bHWH, row_bHWW = weight_bHWK.split(value_bHWC.shape[1:3], dim=-1)
    _along_both(column_bHWH.permute(0, 2, 3, 1), row_bHWW.transpose(2, 3), value_bHWC, value_bHWC, out_bHWC)


def _along_both(
    column_bWNH: Tensor, row_bNWW: Tensor, value_bHWC: Tensor, value_bNWC: Tensor, out_bNWC: Tensor
) -> None:
    """Some columns at a time: their product has to be turned, and a small one stays in the cache."""
    width = value_bHWC.shape[2]
    at_a_time = max(1, CACHED * width // out_bNWC.numel())
    for left in range(0, width, at_a_time):
        some = slice(left, left + at_a_time)
        out_bNWC[:, :, some] = (column_bWNH[:, some] @ value_bHWC[:, :, some].transpose(1, 2)).transpose(1, 2)
    out_bNWC.flatten(0, 1).baddbmm_(row_bNWW.flatten(0, 1), value_bNWC.flatten(0, 1))


def _rows(image_bHWC: Tensor, top: int, like_bNWC: Tensor) -> Tensor:
    return image_bHWC[:, top : top + like_bNWC.shape[1]]
