"""Inference by small chunks of rows, the output product included: for maps that would fill the memory."""

import torch
from torch import Tensor

from ccnet.models.ops.criss_cross import fused
from ccnet.models.ops.criss_cross.projections import Projections

ROWS = 16


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """As `reference.attend`: beside input and output lies little more than query, key and 16 rows, if x is
    channels last and no autocast asks for a copy of it.

    Where a gradient is wanted, which needs whole images, this is `fused`.
    """
    if fused.wants_gradient(x_BCHW, projections):
        return fused.attend(x_BCHW, projections, dtype)
    return fused.attend_by_rows(x_BCHW, projections, dtype, ROWS)
