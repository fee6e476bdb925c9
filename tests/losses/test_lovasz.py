"""Lovasz-softmax against its definition as a loop over pixels, and against IoU of torchmetrics."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from ccnet.losses.lovasz import LovaszSoftmax


def naive(logits: Tensor, mask: Tensor) -> float:
    """sum_i error_i (J(first i wrong) - J(first i - 1 wrong)), J = 1 - IoU, largest error first; mean over the classes
    in the mask. (Berman et al. 2018, in float64.)"""
    p = logits.double().softmax(dim=1)
    valid = (mask != 255).nonzero().tolist()
    losses = []
    for label in sorted({int(mask[b, y, x]) for b, y, x in valid}):
        truth = [int(mask[b, y, x]) == label for b, y, x in valid]
        errors = [abs(t - float(p[b, label, y, x])) for t, (b, y, x) in zip(truth, valid, strict=True)]
        loss, before, missed, added = 0.0, 0.0, 0, 0
        for i in sorted(range(len(valid)), key=lambda i: -errors[i]):
            missed, added = missed + truth[i], added + (not truth[i])
            jaccard_loss = 1 - (sum(truth) - missed) / (sum(truth) + added)
            loss, before = loss + errors[i] * (jaccard_loss - before), jaccard_loss
        losses.append(loss)
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
    classes=st.integers(1, 6),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    ignored=st.sampled_from([0.0, 0.4, 1.1]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)
def test_random_batches(seed: int, classes: int, size: tuple[int, int], ignored: float, dtype: torch.dtype) -> None:
    """Oracle: the naive loops on the same rounded logits; small maps lack some of the classes."""
    logits, mask = batch(seed, classes, size, ignored)
    logits = logits.to(dtype)
    loss = LovaszSoftmax()(logits, mask)
    precise = dtype == torch.float64
    assert loss.dtype == (torch.float64 if precise else torch.float32)
    assert loss.item() == pytest.approx(naive(logits, mask), rel=1e-9 if precise else 1e-5, abs=1e-12)


@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_certain_predictions_are_scored_as_iou(ignored: float) -> None:
    """Oracle: torchmetrics' IoU per class, of the classes that are there; +-1e4 as logits."""
    logits, mask = batch(3, 6, (6, 7), ignored)
    mask[mask == 4] = 2
    certain = torch.full_like(logits, -1e4).scatter(1, logits.argmax(1, keepdim=True), 1e4).float().requires_grad_()
    scores = multiclass_jaccard_index(certain.argmax(1), mask, 6, average="none", ignore_index=255)
    present = [label for label in range(6) if (mask == label).any()]
    loss = LovaszSoftmax()(certain, mask)
    assert loss.item() == pytest.approx(1 - scores[present].mean().item(), rel=1e-6)
    assert torch.autograd.grad(loss, certain)[0].isfinite().all()


def test_single_precision_of_a_large_map() -> None:
    """Oracle: the gradient in float64; differences of 1 - IoU in float32 would leave two digits of it."""
    logits, mask = batch(0, 3, (400, 400), ignored=0.1)
    gradients = []
    for dtype in (torch.float64, torch.float32):
        x = logits.to(dtype).requires_grad_()
        gradients.append(torch.autograd.grad(LovaszSoftmax()(x, mask), x)[0].double())
    exact, single = gradients
    # Where two errors are equal in float32, their places in the order are open.
    close = (single - exact).abs() <= 1e-4 * exact.abs() + 1e-9
    assert close.double().mean() > 0.999


def test_gradcheck() -> None:
    """Oracle: finite differences in float64; the loss is piecewise linear in the errors, which differ here."""
    logits, mask = batch(0, 4, (3, 4), ignored=0.3)
    mask[mask == 2] = 0
    assert torch.autograd.gradcheck(lambda x: LovaszSoftmax()(x, mask), logits.requires_grad_())


def test_all_ignored() -> None:
    """Oracle: the loss contract: a scalar 0 with zero gradient."""
    logits, mask = batch(0, 3, (3, 3), ignored=1.1)
    loss = LovaszSoftmax()(logits.requires_grad_(), mask)
    assert loss.shape == ()
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, logits)[0].any()
