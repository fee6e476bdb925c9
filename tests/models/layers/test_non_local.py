"""Non-local attention: a naive loop, both forms, the official parameter names."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.layers.non_local import NonLocalAttention

FORMS: list[Literal["explicit", "sdpa"]] = ["explicit", "sdpa"]


def module(form: Literal["explicit", "sdpa"], channels: int = 8, gamma: float = 0.5) -> NonLocalAttention:
    torch.manual_seed(0)
    made = NonLocalAttention(channels, reduction=4, form=form).double()
    torch.nn.init.constant_(made.gamma, gamma)
    return made


def naive(attention: NonLocalAttention, x: Tensor) -> Tensor:
    """Each position by itself over all others."""
    query, key, value = (conv(x) for conv in (attention.query_conv, attention.key_conv, attention.value_conv))
    out = torch.empty_like(value)
    for y in range(x.shape[2]):
        for column in range(x.shape[3]):
            logits = torch.einsum("bd,bdhw->bhw", query[:, :, y, column], key)
            weights = logits.flatten(1).softmax(1).view_as(logits)
            out[:, :, y, column] = torch.einsum("bhw,bchw->bc", weights, value)
    return x + attention.gamma * out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(2, 3, 4), (1, 1, 5), (1, 4, 1), (1, 1, 1)])
def test_output_and_gradient(form: Literal["explicit", "sdpa"], size: tuple[int, int, int]) -> None:
    """Oracle: the naive loop in float64, and autograd through it."""
    attention, x = module(form), torch.randn(size[0], 8, *size[1:], dtype=torch.float64, requires_grad=True)
    out, expected = attention(x), naive(attention, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    for gradient, wanted in zip(
        torch.autograd.grad(out.square().sum(), [x, *attention.parameters()]),
        torch.autograd.grad(expected.square().sum(), [x, *attention.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_new_module_is_the_identity_and_finite_under_autocast(form: Literal["explicit", "sdpa"]) -> None:
    """Oracle: the input, to the bit; large features under bfloat16."""
    x = 20 * torch.randn(1, 64, 5, 6)
    assert torch.equal(NonLocalAttention(64, form=form)(x), x)
    attention = NonLocalAttention(64, form=form)
    torch.nn.init.constant_(attention.gamma, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(x)
    assert out.isfinite().all()


def test_parameters_are_those_of_criss_cross_attention() -> None:
    """Oracle: the state dict of the module it is compared with."""
    shapes = [
        {name: tensor.shape for name, tensor in kind(16).state_dict().items()}
        for kind in (NonLocalAttention, CrissCrossAttention)
    ]
    assert shapes[0] == shapes[1]


def test_bad_arguments() -> None:
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match="form must be explicit or sdpa, got flash"):
        NonLocalAttention(8, form="flash")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="multiple of reduction=8, got 12"):
        NonLocalAttention(12)
