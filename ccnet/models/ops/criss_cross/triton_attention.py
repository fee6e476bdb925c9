"""Criss-cross attention by Triton kernels: nothing of size H + W per position is stored, forward or backward.

Shape suffixes: B batch, D channels of query and key, C channels of the value, H height, W width.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import triton  # type: ignore[import-untyped]  # has no types
from torch import Tensor
from torch.nn import functional as F
from triton import knobs

from ccnet.models.ops.criss_cross import reference, triton_kernels
from ccnet.models.ops.criss_cross.projections import Projections

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
FUSION = {"enable_fp_fusion": True}  # the default, which Triton 3.9 warns it will change


def attend(x_BCHW: Tensor, projections: Projections, dtype: torch.dtype) -> Tensor:
    """x + gamma * (the aggregated values), its products in `dtype`; see reference.attend.

    The weights of a cross sum to one, so Wv agg(x) + bv = agg(Wv x + bv): x itself is aggregated, there is no value
    tensor, and gamma goes into Wv.

    Raises:
        ValueError: a device or a dtype that the kernels do not run on.
    """
    require(x_BCHW.device, dtype)
    x_BHWC = x_BCHW.permute(0, 2, 3, 1).contiguous()
    value_BHWC = x_BHWC.to(dtype)
    weight = torch.cat([projections.query_weight, projections.key_weight])
    bias = torch.cat([projections.query_bias, projections.key_bias])
    query_BHWD, key_BHWD = F.linear(value_BHWC, weight.to(dtype), bias.to(dtype)).chunk(2, dim=-1)
    gamma = projections.gamma.float()
    update_BHWC = F.linear(
        gather(query_BHWD, key_BHWD, value_BHWC),
        (gamma * projections.value_weight.float()).to(dtype),
        (gamma * projections.value_bias.float()).to(dtype),
    )
    return (x_BHWC + update_BHWC).to(x_BCHW.dtype).permute(0, 3, 1, 2)


def gather(query_BHWD: Tensor, key_BHWD: Tensor, value_BHWC: Tensor) -> Tensor:
    """The values of each position's row and column, weighted by attention (Eq. 1-2): (B, H, W, C), any H, W >= 1.

    Differentiable any number of times: its gradient by kernels, further ones by differentiating the reference.
    """
    out_BHWC: Tensor = _Gather.apply(query_BHWD, key_BHWD, value_BHWC.contiguous())
    return out_BHWC


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Refuses what the kernels do not run on.

    Raises:
        ValueError: no CUDA device (unless Triton's interpreter is on), one older than Ampere, or another dtype.
    """
    if device.type != "cuda" and not knobs.runtime.interpret:
        raise ValueError(f"backend triton needs a CUDA tensor, got one on {device.type}; use backend=auto or fused")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError("backend triton needs a GPU of compute capability 8.0 or newer; use backend=auto or fused")
    if dtype not in DTYPES:
        raise ValueError(f"backend triton takes float32, float16 or bfloat16, got {dtype}; use backend=auto or fused")


class _Gather(torch.autograd.Function):
    """Keeps query, key, value, the result and two numbers per position; the weights are computed again."""

    @staticmethod
    def forward(ctx: Any, query_BHWD: Tensor, key_BHWD: Tensor, value_BHWC: Tensor) -> Tensor:
        normalizer = _normalizer(query_BHWD, key_BHWD)
        out_BHWC = _aggregate(query_BHWD, key_BHWD, value_BHWC, normalizer)
        ctx.save_for_backward(query_BHWD, key_BHWD, value_BHWC, out_BHWC, *normalizer)
        return out_BHWC

    @staticmethod
    def backward(ctx: Any, grad_BHWC: Tensor) -> tuple[Tensor | None, ...]:
        query_BHWD, key_BHWD, value_BHWC, out_BHWC, *normalizer = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody asks for a second derivative
            return _differentiable_backward(ctx.needs_input_grad, (query_BHWD, key_BHWD, value_BHWC), grad_BHWC)
        grad_BHWC = grad_BHWC.contiguous()
        of_query = of_key = of_value = None
        if ctx.needs_input_grad[2]:
            of_value = _aggregate(key_BHWD, query_BHWD, grad_BHWC, normalizer, transposed=True)
        if any(ctx.needs_input_grad[:2]):
            delta = _product(grad_BHWC, out_BHWC)
            of_query, of_key = _logit_gradients(query_BHWD, key_BHWD, value_BHWC, grad_BHWC, normalizer, delta)
        return of_query, of_key, of_value


def _differentiable_backward(
    needed: tuple[bool, ...], inputs: tuple[Tensor, ...], grad_BHWC: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients as functions of the inputs, by way of the reference.

    The inputs get names of their own: query and key may depend on the value, and the gradient through them is the outer
    graph's to add.
    """
    inputs = tuple(tensor.view_as(tensor) for tensor in inputs)
    query_BDHW, key_BDHW, value_BCHW = (tensor.permute(0, 3, 1, 2) for tensor in inputs)
    out_BCHW = reference.aggregation(reference.affinity(query_BDHW, key_BDHW), value_BCHW)
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    gradients = iter(torch.autograd.grad(out_BCHW, wanted, grad_BHWC.permute(0, 3, 1, 2), create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


def _normalizer(query_BHWD: Tensor, key_BHWD: Tensor) -> tuple[Tensor, Tensor]:
    """Of each query's softmax: its largest logit, and its sum of exp(logit - largest)."""
    _, height, width, depth = query_BHWD.shape
    query, key = _by_pixel(query_BHWD), _by_pixel(key_BHWD)
    peak, total = (query.new_empty(len(query), dtype=torch.float32) for _ in range(2))
    size = (height, width, depth, query.stride(0), key.stride(0))
    for sweep in _sweeps(query_BHWD):
        sweep.launch(triton_kernels.normalizer, query, key, peak, total, *size, BLOCK_D=_padded(depth))
    return peak, total


def _aggregate(
    own_BHWD: Tensor, visited_BHWD: Tensor, value_BHWC: Tensor, normalizer: Sequence[Tensor], transposed: bool = False
) -> Tensor:
    """Eq. 2 with queries `own` and keys `visited`; `transposed`, the gradient of its value, with keys and queries.

    The rows' part waits for the columns' in the dtype of the value: a rounding which the reference has too, where
    float32 would add a fifth to the traffic of a forward pass.
    """
    (_, height, width, depth), channels = own_BHWD.shape, value_BHWC.shape[3]
    own, visited = _by_pixel(own_BHWD), _by_pixel(visited_BHWD)
    out_BHWC = torch.empty_like(value_BHWC)
    tensors = (own, visited, value_BHWC, *normalizer, out_BHWC)
    size = (height, width, depth, channels, own.stride(0), visited.stride(0))
    for sweep in _sweeps(own_BHWD):
        chunk = min(sweep.chunk, _padded(channels))
        switches = {"TRANSPOSED": transposed, "BLOCK_D": _padded(depth), "BLOCK_C": chunk}
        sweep.launch(triton_kernels.aggregate, *tensors, *size, chunks=triton.cdiv(channels, chunk), **switches)
    return out_BHWC


def _logit_gradients(
    query_BHWD: Tensor,
    key_BHWD: Tensor,
    value_BHWC: Tensor,
    grad_BHWC: Tensor,
    normalizer: Sequence[Tensor],
    delta: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradients of query and key."""
    (_, height, width, depth), channels = query_BHWD.shape, value_BHWC.shape[3]
    query, key = _by_pixel(query_BHWD), _by_pixel(key_BHWD)
    of_query, of_key = query.new_empty(query_BHWD.shape), key.new_empty(key_BHWD.shape)
    tensors = (query, key, value_BHWC, grad_BHWC, *normalizer, delta, of_query, of_key)
    size = (height, width, depth, channels, query.stride(0), key.stride(0))
    for sweep in _sweeps(query_BHWD, gradients=True):
        chunk = min(sweep.chunk, _padded(channels))
        switches = {"ONE_BLOCK": sweep.length <= sweep.block, "BLOCK_D": _padded(depth), "BLOCK_C": chunk}
        sweep.launch(triton_kernels.logit_gradients, *tensors, *size, **switches)
    return of_query, of_key


def _product(left_BHWC: Tensor, right_BHWC: Tensor) -> Tensor:
    """The sum of left * right over the channels, in float32 without a float32 copy of either."""
    left, channels = _by_pixel(left_BHWC), left_BHWC.shape[3]
    out = left.new_empty(len(left), dtype=torch.float32)
    with torch.cuda.device_of(left):
        triton_kernels.product[(triton.cdiv(len(left), 32),)](
            left, right_BHWC, out, len(left), channels, BLOCK=32, BLOCK_C=min(128, _padded(channels)), **FUSION
        )
    return out


def _by_pixel(tensor_BHWD: Tensor) -> Tensor:
    """(pixels, D) with the channels next to each other; a view if the memory allows it."""
    pixels = tensor_BHWD.flatten(0, 2)
    return pixels if pixels.stride(1) == 1 else pixels.contiguous()


class _Sweep(NamedTuple):
    """One launch over all rows, or all columns, and the tiles that they are cut into."""

    column: bool
    lines: int
    length: int
    block: int
    chunk: int
    warps: int
    stages: int

    def launch(self, kernel: Any, *arguments: Tensor | float, chunks: int = 1, **switches: int) -> None:
        """A program per block of each line and chunk of channels."""
        grid = (self.lines * triton.cdiv(self.length, self.block), chunks)
        switches |= {"COLUMN": self.column, "BLOCK": self.block, "num_warps": self.warps, "num_stages": self.stages}
        with torch.cuda.device_of(arguments[0]):  # else it would run on the current device, whatever the tensors are on
            kernel[grid](*arguments, **switches, **FUSION)


def _sweeps(tensor_BHWD: Tensor, gradients: bool = False) -> Iterator[_Sweep]:
    """Rows, then columns. The tiles were chosen by compiling for sm_90, mainly at D = 64 and C = 512.

    Half precision: 64 x 256 takes 250 registers in 4 warps and 88 KiB, so two programs share a multiprocessor. For the
    logits' gradient, a line of 65 to 128 in one piece spares the second reading of value and gradient, and two or more
    pieces of 128 would spill registers. Float32 has no tensor cores, so small tiles. D sets the room that is left: in
    float32 it ends at 512.
    """
    batch, height, width, depth = tensor_BHWD.shape
    exact = tensor_BHWD.dtype == torch.float32
    room = max(16, (4096 if exact else 8192) // _padded(depth))
    for column, lines, length in ((False, batch * height, width), (True, batch * width, height)):
        whole = gradients and not exact and 64 < length <= 128 and depth <= 64
        block = 128 if whole else min(32 if exact else 64, room, _padded(length))
        chunk = 64 if exact or gradients else 256
        warps = 8 if exact or whole or (gradients and depth > 64) else 4
        yield _Sweep(column, lines, length, block, chunk, warps, stages=1 if exact else 2)


def _padded(size: int) -> int:
    """Tiles are powers of two, and matrix products begin at 16."""
    return max(16, int(triton.next_power_of_2(size)))
