"""Criss-cross attention against Eq. 1-2 of the paper, written as a loop over the positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccnet.models.ops.criss_cross import criss_cross_attention


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each position by itself: its row, then its column without itself, one softmax over the H + W - 1 products."""
    height, width = query.shape[-2:]
    gathered = []
    for y in range(height):
        for x in range(width):
            cross = [(y, j) for j in range(width)] + [(i, x) for i in range(height) if i != y]
            assert len(cross) == height + width - 1
            rows, columns = zip(*cross, strict=True)
            logits = torch.einsum("bd,bdk->bk", query[:, :, y, x], key[:, :, rows, columns])
            gathered.append(torch.einsum("bk,bck->bc", logits.softmax(-1), value[:, :, rows, columns]))
    return torch.stack(gathered, dim=-1).unflatten(-1, (height, width))


def inputs(
    batch: int, height: int, width: int, depth: int = 3, channels: int = 4, layout: str = "contiguous_format"
) -> list[Tensor]:
    """Query, key and value in float64; each a leaf in the given memory format."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    sizes = [(batch, planes, height, width) for planes in (depth, depth, channels)]
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return [tensor.to(memory_format=getattr(torch, layout)).requires_grad_() for tensor in tensors]


LAYOUT = st.sampled_from(["contiguous_format", "channels_last"])


@settings(deadline=None, max_examples=25)
@given(batch=st.integers(1, 2), height=st.integers(1, 6), width=st.integers(1, 6), layout=LAYOUT)
def test_output_and_gradients_at_any_size(batch: int, height: int, width: int, layout: str) -> None:
    """Oracle: the naive loop in float64; the gradients are autograd's through that loop."""
    ours = inputs(batch, height, width, layout=layout)
    reference = [tensor.detach().clone().requires_grad_() for tensor in ours]
    out, expected = criss_cross_attention(*ours), naive(*reference)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(out, ours, direction), torch.autograd.grad(expected, reference, direction), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(2, 5, 3), (1, 1, 4), (1, 4, 1), (1, 1, 1)])
def test_sizes_that_must_not_be_left_to_chance(size: tuple[int, int, int]) -> None:
    """Oracle: the naive loop; H != W, a row, a column and a single position, which returns its own value."""
    query, key, value = inputs(*size)
    torch.testing.assert_close(criss_cross_attention(query, key, value), naive(query, key, value), rtol=0, atol=1e-12)
    if size[1:] == (1, 1):
        assert torch.equal(criss_cross_attention(query, key, value), value)


def test_gradcheck() -> None:
    """Oracle: finite differences in float64."""
    assert torch.autograd.gradcheck(criss_cross_attention, inputs(2, 3, 4, depth=2, channels=2))


@pytest.mark.parametrize("sign", [-1, 1])
def test_equal_logits_of_any_size_give_the_mean_of_the_cross(sign: int) -> None:
    """Oracle: the mean over the H + W - 1 positions by hand; products of +-1e6, beyond any finite mask value."""
    value = torch.randn(1, 2, 4, 3)
    same = torch.full((1, 1, 4, 3), 1e3)
    crosses = value.sum(2, keepdim=True) + value.sum(3, keepdim=True) - value
    torch.testing.assert_close(criss_cross_attention(same, sign * same, value), crosses / (4 + 3 - 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_with_large_logits(dtype: torch.dtype) -> None:
    """Oracle: float64 on the same rounded inputs; products near 60, which half precision would round by up to 0.25."""
    query, key, value = (tensor.detach() for tensor in inputs(2, 7, 5, depth=4))
    largest = torch.einsum("bdij,bdkl->bijkl", query, key).abs().max()
    half = [(query * (60 / largest).sqrt()).to(dtype), (key * (60 / largest).sqrt()).to(dtype), value.to(dtype)]
    expected = naive(*(tensor.double() for tensor in half))
    out = criss_cross_attention(*half)
    assert out.dtype == dtype
    assert (out.double() - expected).abs().max() < 1e-2 * expected.abs().max()


def test_autocast_does_not_lower_the_precision() -> None:
    """Oracle: the result outside autocast, to the bit."""
    query, key, value = (tensor.detach().float() for tensor in inputs(1, 4, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = criss_cross_attention(query, key, value)
    assert torch.equal(inside, criss_cross_attention(query, key, value))
