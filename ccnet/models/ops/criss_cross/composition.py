"""What a position sees over several loops."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ccnet.models.ops.criss_cross.cross import scatter


def compose(attentions_BHWK: Sequence[Tensor], row: int, column: int) -> Tensor:
    """What one position takes from each other over several loops: its row of A_R ... A_2 A_1 (CCNet Sec. 3.3).

    The matrix product would hold (H W)^2 numbers; one row of it is a map, which each loop spreads along the crosses.

    Args:
        attentions_BHWK: (B, H, W, H + W) of each loop, first loop first, as `reference.affinity` gives them.
        row, column: the position, counted from 0.

    Returns:
        (B, H, W), summing to one in each image.

    Raises:
        ValueError: no loop.
        IndexError: a position outside the map.
    """
    if not attentions_BHWK:
        raise ValueError("without a loop of attention (recurrence=0) a position takes from no other")
    batch, height, width, _ = attentions_BHWK[0].shape
    if not (0 <= row < height and 0 <= column < width):
        raise IndexError(f"position ({row}, {column}) lies outside the map of {height} x {width}")
    taken_BHW1 = attentions_BHWK[0].new_zeros(batch, height, width, 1)
    taken_BHW1[:, row, column] = 1
    for attention_BHWK in reversed(attentions_BHWK):
        spread_BHW1 = torch.empty_like(taken_BHW1)
        scatter(attention_BHWK, taken_BHW1, spread_BHW1)
        taken_BHW1 = spread_BHW1
    return taken_BHW1.squeeze(-1)
