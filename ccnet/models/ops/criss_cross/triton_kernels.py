"""Kernels of criss-cross attention on channels-last maps: each program works on one line, a row or a column.

Each kernel runs twice, over all rows and then over all columns, and the second run adds to the first. Plain sums do,
since the softmax over the whole cross is known beforehand (`normalizer`). Nothing of size H + W per position is ever
stored, and no two programs write to the same place: the result does not depend on their order.

Shape suffixes: M positions of a line that a program computes, N positions of the same line that it visits, D channels
of query and key, C a chunk of the channels of the value; dX is the gradient of the loss by X, S the logits, P the
weights. What lies past the end of a line or of the channels reads as 0 and is never written.
"""

# Arguments of a kernel are pointers, numbers and blocks, known to Triton when it compiles, not to Python:
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202

import triton  # type: ignore[import-untyped]  # has no types
import triton.language as tl  # type: ignore[import-untyped]
from triton import knobs

INTERPRETED = tl.constexpr(knobs.runtime.interpret)


@triton.jit
def normalizer(
    query,
    key,
    peak,
    total,
    height,
    width,
    depth,
    query_stride,
    key_stride,
    COLUMN: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Each query's largest logit, and its sum of exp(logit - largest); the columns go on from what the rows found.

    Two numbers, not their log-sum-exp, which beside a logit of 1e6 would lose the digits of the sum.
    """
    first, step, length, start_M = _line(height, width, COLUMN, BLOCK)
    positions_M, pixels_M, inside_M = _block(start_M, first, step, length, BLOCK)
    query_MD = _load(query, pixels_M, inside_M, query_stride, 0, depth, BLOCK_D)
    if COLUMN:
        peak_M = tl.load(peak + pixels_M, mask=inside_M, other=0.0)
        total_M = tl.load(total + pixels_M, mask=inside_M, other=1.0)
    else:
        peak_M = tl.full((BLOCK,), float("-inf"), tl.float32)
        total_M = tl.zeros((BLOCK,), tl.float32)
    for start_N in range(0, length, BLOCK):
        positions_N, pixels_N, inside_N = _block(start_N, first, step, length, BLOCK)
        key_ND = _load(key, pixels_N, inside_N, key_stride, 0, depth, BLOCK_D)
        S_MN = _logits(query_MD, key_ND, positions_M, positions_N, length, COLUMN)
        higher_M = tl.maximum(peak_M, tl.max(S_MN, 1))  # finite: a row's first block has a key for every query
        total_M = total_M * tl.exp(peak_M - higher_M) + tl.sum(tl.exp(S_MN - higher_M[:, None]), 1)
        peak_M = higher_M
    tl.store(peak + pixels_M, peak_M, mask=inside_M)
    tl.store(total + pixels_M, total_M, mask=inside_M)


@triton.jit
def aggregate(
    own,
    visited,
    value,
    peak,
    total,
    out,
    height,
    width,
    depth,
    channels,
    own_stride,
    visited_stride,
    COLUMN: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """out[m] (+)= sum over n of P[m, n] value[n]; `own` are the queries, `visited` the keys (Eq. 2).

    TRANSPOSED: of P[n, m] value[n]; `own` are the keys, `visited` the queries. With dout as value it makes dvalue.
    """
    first, step, length, start_M = _line(height, width, COLUMN, BLOCK)
    positions_M, pixels_M, inside_M = _block(start_M, first, step, length, BLOCK)
    channel = tl.program_id(1) * BLOCK_C
    own_MD = _load(own, pixels_M, inside_M, own_stride, 0, depth, BLOCK_D)
    out_MC = tl.zeros((BLOCK, BLOCK_C), tl.float32)
    for start_N in range(0, length, BLOCK):
        positions_N, pixels_N, inside_N = _block(start_N, first, step, length, BLOCK)
        visited_ND = _load(visited, pixels_N, inside_N, visited_stride, 0, depth, BLOCK_D)
        value_NC = _load(value, pixels_N, inside_N, channels, channel, channels, BLOCK_C)
        S_MN = _logits(own_MD, visited_ND, positions_M, positions_N, length, COLUMN)
        if TRANSPOSED:
            P_MN = _weights(S_MN, peak, total, pixels_N, inside_N, 0)
        else:
            P_MN = _weights(S_MN, peak, total, pixels_M, inside_M, 1)
        out_MC = _dot(P_MN.to(value_NC.dtype), value_NC, out_MC)
    _write(out, out_MC, pixels_M, inside_M, channel, channels, COLUMN, BLOCK_C)


@triton.jit
def product(left, right, out, pixels, channels, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr) -> None:
    """out[pixel] = sum over the channels of left * right, in float32."""
    pixels_M = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside_M = pixels_M < pixels
    sum_M = tl.zeros((BLOCK,), tl.float32)
    for channel in range(0, channels, BLOCK_C):
        left_MC = _load(left, pixels_M, inside_M, channels, channel, channels, BLOCK_C)
        right_MC = _load(right, pixels_M, inside_M, channels, channel, channels, BLOCK_C)
        sum_M += tl.sum(left_MC.to(tl.float32) * right_MC.to(tl.float32), 1)
    tl.store(out + pixels_M, sum_M, mask=inside_M)


@triton.jit
def logit_gradients(
    query,
    key,
    value,
    dout,
    peak,
    total,
    delta,
    dquery,
    dkey,
    height,
    width,
    depth,
    channels,
    query_stride,
    key_stride,
    COLUMN: tl.constexpr,
    ONE_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """dquery[m] (+)= sum over n of dS[m, n] key[n], dkey[m] (+)= sum over n of dS[n, m] query[n].

    ONE_BLOCK: the line is one block, so that both sums have the same dS.
    """
    first, step, length, start_M = _line(height, width, COLUMN, BLOCK)
    own = _block(start_M, first, step, length, BLOCK)
    query_MD = _load(query, own[1], own[2], query_stride, 0, depth, BLOCK_D)
    key_MD = _load(key, own[1], own[2], key_stride, 0, depth, BLOCK_D)
    rest = (value, dout, peak, total, delta, length, channels)
    dquery_MD = tl.zeros((BLOCK, BLOCK_D), tl.float32)
    dkey_MD = tl.zeros((BLOCK, BLOCK_D), tl.float32)
    for start_N in range(0, length, BLOCK):
        visited = _block(start_N, first, step, length, BLOCK)
        query_ND = _load(query, visited[1], visited[2], query_stride, 0, depth, BLOCK_D)
        key_ND = _load(key, visited[1], visited[2], key_stride, 0, depth, BLOCK_D)
        dS_MN = _logit_gradient(query_MD, key_ND, own, visited, rest, COLUMN, BLOCK, BLOCK_C)
        dquery_MD = _dot(dS_MN, key_ND, dquery_MD)
        dS_NM = dS_MN if ONE_BLOCK else _logit_gradient(query_ND, key_MD, visited, own, rest, COLUMN, BLOCK, BLOCK_C)
        dkey_MD = _dot(tl.trans(dS_NM), query_ND, dkey_MD)
    _write(dquery, dquery_MD, own[1], own[2], 0, depth, COLUMN, BLOCK_D)
    _write(dkey, dkey_MD, own[1], own[2], 0, depth, COLUMN, BLOCK_D)


@triton.jit
def _logit_gradient(
    query_MD, key_ND, of_query, of_key, rest, COLUMN: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr
):
    """dS = P * (dP - delta), delta being the sum of P * dP over the cross, that is of out * dout over the channels."""
    value, dout, peak, total, delta, length, channels = rest
    positions_M, pixels_M, inside_M = of_query
    positions_N, pixels_N, inside_N = of_key
    dP_MN = tl.zeros((BLOCK, BLOCK), tl.float32)
    for channel in range(0, channels, BLOCK_C):
        dout_MC = _load(dout, pixels_M, inside_M, channels, channel, channels, BLOCK_C)
        value_NC = _load(value, pixels_N, inside_N, channels, channel, channels, BLOCK_C)
        dP_MN = _dot(dout_MC, tl.trans(value_NC), dP_MN)
    S_MN = _logits(query_MD, key_ND, positions_M, positions_N, length, COLUMN)
    P_MN = _weights(S_MN, peak, total, pixels_M, inside_M, 1)
    delta_M = tl.load(delta + pixels_M, mask=inside_M, other=0.0)
    return (P_MN * (dP_MN - delta_M[:, None])).to(query_MD.dtype)


@triton.jit
def _line(height, width, COLUMN: tl.constexpr, BLOCK: tl.constexpr):
    """The line's first pixel of the (B, H, W) map, the step to its next, how many it has, and the program's first.

    The blocks of a line are neighbours in the order of the programs, and find the line in the cache.
    """
    length = height if COLUMN else width
    blocks = tl.cdiv(length, BLOCK)
    line = (tl.program_id(0) // blocks).to(tl.int64)
    start = tl.program_id(0) % blocks * BLOCK
    first = line // width * width * height + line % width if COLUMN else line * width
    return first, width if COLUMN else 1, length, start


@triton.jit
def _block(start, first, step, length, BLOCK: tl.constexpr):
    """Positions in a line, their pixels (in 64 bits: times the channels they outgrow 32), and which of them exist."""
    positions = start + tl.arange(0, BLOCK)
    return positions, first + positions.to(tl.int64) * step, positions < length


@triton.jit
def _load(pointer, pixels, inside, stride, channel, channels, BLOCK_C: tl.constexpr):
    """(pixels, BLOCK_C) from `channel` on."""
    channel_C = channel + tl.arange(0, BLOCK_C)
    mask = inside[:, None] & (channel_C < channels)[None, :]
    return tl.load(pointer + pixels[:, None] * stride + channel_C[None, :], mask=mask, other=0.0)


@triton.jit
def _write(pointer, result, pixels, inside, channel, channels, ADD: tl.constexpr, BLOCK_C: tl.constexpr):
    """The result, or its sum with what stands there."""
    channel_C = channel + tl.arange(0, BLOCK_C)
    mask = inside[:, None] & (channel_C < channels)[None, :]
    place = pointer + pixels[:, None] * channels + channel_C[None, :]
    if ADD:
        result += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, result.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _logits(own_MD, visited_ND, positions_M, positions_N, length, COLUMN: tl.constexpr):
    """Products of Eq. 1; -inf past the end of the line, and in a column at the own position, which the row counts."""
    hidden_MN = (positions_N >= length)[None, :]
    if COLUMN:
        hidden_MN = hidden_MN | (positions_M[:, None] == positions_N[None, :])
    S_MN = _dot(own_MD, tl.trans(visited_ND), tl.zeros((own_MD.shape[0], visited_ND.shape[0]), tl.float32))
    return tl.where(hidden_MN, float("-inf"), S_MN)


@triton.jit
def _weights(S, peak, total, pixels, inside, KEY_AXIS: tl.constexpr):
    """P of the queries `pixels`, which lie along the other axis."""
    highest = tl.expand_dims(tl.load(peak + pixels, mask=inside, other=0.0), KEY_AXIS)
    share = tl.expand_dims(1.0 / tl.load(total + pixels, mask=inside, other=1.0), KEY_AXIS)
    return tl.exp(S - highest) * share


@triton.jit
def _dot(left, right, accumulator):
    """accumulator + left @ right, and float32 is not rounded to tf32."""
    if INTERPRETED:  # Triton's interpreter takes the bits of bfloat16 for integers
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, accumulator, input_precision="ieee")
