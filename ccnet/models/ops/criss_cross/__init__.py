"""Criss-cross attention as one function over several backends, which all give the same:

    reference   the textbook's form, to be checked against the paper at sight
    fused       fewest passes over memory, least kept for the gradient
    chunked     inference by rows, for maps that would fill the memory; fused where a gradient is wanted
    sparse      sparse matrices, for runtimes that have nothing else
    triton      CUDA kernels
    auto        fused; reference where a graph is captured (torch.compile, torch.export), whose compiler fuses itself

`auto` takes triton nowhere yet: it was measured on no GPU.
"""

from importlib import import_module
from typing import Literal, get_args

import torch
from torch import Tensor

from ccnet.models.ops.criss_cross import chunked, fused, reference, sparse
from ccnet.models.ops.criss_cross.projections import Projections

Backend = Literal["auto", "reference", "fused", "chunked", "sparse", "triton"]
IN_TORCH = {"reference": reference, "fused": fused, "chunked": chunked, "sparse": sparse}


def criss_cross_attention(x_BCHW: Tensor, projections: Projections, backend: Backend = "auto") -> Tensor:
    """x + gamma * (Wv agg + bv), where agg gathers at each position its row and column, weighted by the softmax over
    their H + W - 1 products of query and key, without scaling (CCNet Eq. 1-2, arXiv:1811.11721).

    Logits and softmax are at least float32, whatever the input; the other products have the number format of autocast
    where that is on, else that of x.

    Args:
        x_BCHW: (B, C, H, W), B, H and W at least 1; contiguous, or better channels last.
        projections: the parameters.
        backend: see above.

    Returns:
        (B, C, H, W) in the dtype of x; of fused, chunked and triton channels last in memory.

    Raises:
        ValueError: x is no map of floating-point numbers or empty, has other channels than the projections; an unknown
            backend, or triton without CUDA.
    """
    require_backend(backend)
    if x_BCHW.ndim != 4 or not x_BCHW.is_floating_point() or 0 in x_BCHW.shape:
        raise ValueError(f"x must be a non-empty floating-point (B, C, H, W), got {x_BCHW.dtype} {tuple(x_BCHW.shape)}")
    channels = projections.value_weight.shape[1]
    if x_BCHW.shape[1] != channels:
        raise ValueError(f"x has {x_BCHW.shape[1]} channels, the projections take {channels}")
    device = x_BCHW.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BCHW.dtype
    with torch.autocast(device, enabled=False):
        if backend == "auto":
            backend = "reference" if torch.compiler.is_compiling() else "fused"
        # Triton is not everywhere, and slow to import.
        module = IN_TORCH.get(backend) or import_module("ccnet.models.ops.criss_cross.triton_attention")
        attended: Tensor = module.attend(x_BCHW, projections, dtype)
        return attended


def require_backend(backend: str) -> None:
    """Raises:
    ValueError: there is no such backend.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend}")
