"""Focal loss against a loop over pixels, and against the library that has its two-class case."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from ccnet.losses.focal import Focal


def naive(logits: Tensor, mask: Tensor, gamma: float, alpha: list[float]) -> float:
    """Mean over the valid pixels of -alpha (1 - p)^gamma log p, in float64."""
    losses = []
    for b, y, x in (mask != 255).nonzero().tolist():
        label = int(mask[b, y, x])
        log_p = float(F.log_softmax(logits[b, :, y, x].double(), dim=0)[label])
        losses.append(-alpha[label] * (1 - math.exp(log_p)) ** gamma * log_p)
    return sum(losses) / max(1, len(losses))


def batch(seed: int, classes: int, size: tuple[int, int], ignored: float, scale: float = 2) -> tuple[Tensor, Tensor]:
    """Float64 logits (2, C, H, W) and a mask."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, classes, *size, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, classes, (2, *size), generator=generator)
    return logits, mask.masked_fill(torch.rand(mask.shape, generator=generator) < ignored, 255)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 7),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    ignored=st.sampled_from([0.0, 0.4, 1.1]),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    weighted=st.booleans(),
)
def test_random_batches(
    seed: int, classes: int, size: tuple[int, int], ignored: float, gamma: float, weighted: bool
) -> None:
    """Oracle: the naive loop."""
    logits, mask = batch(seed, classes, size, ignored)
    alpha = [0.5 + label for label in range(classes)] if weighted else None
    expected = naive(logits, mask, gamma, alpha or [1.0] * classes)
    assert Focal(gamma, alpha)(logits, mask).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_two_classes_are_the_sigmoid_form() -> None:
    """Oracle: torchvision's sigmoid_focal_loss of the difference of both logits, which is the paper's binary form."""
    logits, mask = batch(0, 2, (4, 5), ignored=0.0)
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], mask.double(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(Focal(gamma=2)(logits, mask), expected)


def test_gamma_zero_is_cross_entropy() -> None:
    """Oracle: torch, for the value and the gradient."""
    logits, mask = batch(0, 4, (4, 5), ignored=0.3)
    logits.requires_grad_()
    values = (Focal(gamma=0)(logits, mask), F.cross_entropy(logits, mask, ignore_index=255))
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in values))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits(gamma: float) -> None:
    """Oracle: the naive loop at +-1e4, where p is 0 or 1; the gradient is finite, and -1 / 0 / 1 per pixel at most."""
    logits, mask = batch(0, 4, (4, 5), ignored=0.2)
    logits = (logits.sign() * 1e4).float().requires_grad_()
    loss = Focal(gamma)(logits, mask)
    assert loss.item() == pytest.approx(naive(logits.detach(), mask, gamma, [1.0] * 4), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() <= 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input(dtype: torch.dtype) -> None:
    """Oracle: the naive loop on the same rounded logits; in float32, rounding of the result included."""
    logits, mask = batch(0, 3, (20, 20), ignored=0.2)
    loss = Focal()(logits.to(dtype), mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(logits.to(dtype), mask, 2, [1.0] * 3), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_gradcheck(gamma: float) -> None:
    """Oracle: finite differences in float64."""
    logits, mask = batch(0, 3, (3, 4), ignored=0.3)
    assert torch.autograd.gradcheck(lambda x: Focal(gamma, [0.2, 1.0, 3.0])(x, mask), logits.requires_grad_())


def test_bad_values() -> None:
    """Oracle: the documented errors, which name the value."""
    with pytest.raises(ValueError, match="gamma must be >= 0, got -1"):
        Focal(gamma=-1)
    with pytest.raises(ValueError, match=r"alpha must be >= 0 and finite, got \[1.0, -2.0\]"):
        Focal(alpha=[1.0, -2.0])
    with pytest.raises(ValueError, match="2 values of alpha for 3 classes"):
        Focal(alpha=[1.0, 2.0])(*batch(0, 3, (2, 2), 0.0))
