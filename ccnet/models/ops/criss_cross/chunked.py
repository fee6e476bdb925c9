"""Inference by small chunks of rows, the output product included: for maps that would fill the memory."""

import torch
from torch import Tensor

from ccnet.models.ops.criss_cross.fused import attend_by_rows
from ccnet.models.ops.criss_cross.projections import Projections

ROWS = 16


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """As `reference.attend`, without gradient: beside input and output lies little more than query, key and 16 rows.

    Raises:
        RuntimeError: a gradient would be needed.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x_BCHW, *projections)):
        raise RuntimeError("backend chunked computes no gradient: use torch.no_grad(), or train with backend fused")
    return attend_by_rows(x_BCHW, projections, dtype, ROWS)
