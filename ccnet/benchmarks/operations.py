"""Operations of a call: two per multiply-add of products and convolutions, as PyTorch counts them."""

import math

import torch
from torch.utils.flop_counter import FlopCounterMode


def operation_counter() -> FlopCounterMode:
    """A context whose `get_total_flops()` says how many there were so far; Triton's kernels are not counted."""
    in_place = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _product)  # PyTorch lacks them
    return FlopCounterMode(display=False, custom_mapping=in_place)


def _product(out: torch.Size, left: torch.Size, right: torch.Size, **options: object) -> int:
    return 2 * math.prod(left) * right[-1]
