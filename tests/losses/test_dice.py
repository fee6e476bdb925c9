"""Dice loss against loops over classes and pixels, and against F1 of torchmetrics."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from ccnet.losses.dice import Dice


def naive(logits: Tensor, mask: Tensor, smooth: float = 0.0) -> float:
    """1 - (2 sum p g + smooth) / (sum p + sum g + smooth), mean over the classes in the mask, in float64."""
    p = logits.double().softmax(dim=1)
    losses = []
    for label in range(logits.shape[1]):
        overlap = predicted = true = 0.0
        for b, y, x in itertools.product(*map(range, mask.shape)):
            if mask[b, y, x] != 255:
                predicted += float(p[b, label, y, x])
                overlap += float(p[b, label, y, x]) if mask[b, y, x] == label else 0.0
                true += float(mask[b, y, x] == label)
        if true:
            losses.append(1 - (2 * overlap + smooth) / (predicted + true + smooth))
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
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ignored=st.sampled_from([0.0, 0.4, 1.1]),
    smooth=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_random_batches(seed: int, classes: int, size: tuple[int, int], ignored: float, smooth: float) -> None:
    """Oracle: the naive loops; small maps lack some of the classes."""
    logits, mask = batch(seed, classes, size, ignored)
    assert Dice(smooth)(logits, mask).item() == pytest.approx(naive(logits, mask, smooth), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_certain_predictions_are_scored_as_f1(ignored: float) -> None:
    """Oracle: torchmetrics' F1 per class, which is the Dice coefficient, of the classes that are there; +-1e4 as
    logits."""
    logits, mask = batch(3, 6, (6, 7), ignored)
    mask[mask == 4] = 2
    certain = torch.full_like(logits, -1e4).scatter(1, logits.argmax(1, keepdim=True), 1e4).float()
    scores = multiclass_f1_score(certain.argmax(1), mask, 6, average="none", ignore_index=255)
    present = [label for label in range(6) if (mask == label).any()]
    assert Dice()(certain, mask).item() == pytest.approx(1 - scores[present].mean().item(), rel=1e-6)


@pytest.mark.parametrize(("predicted", "expected"), [((1, 1, 1, 1), 0), ((1, 1, 0, 0), 1 / 3), ((0, 0, 0, 0), 1)])
def test_by_hand(predicted: tuple[int, ...], expected: float) -> None:
    """Oracle: a class on four pixels of which 4, 2 or 0 are found, 1 - 2 / 3 in the second case; these are the values
    that segmentation_models_pytorch's tests expect of the score."""
    is_class = torch.tensor(predicted).bool().view(1, 1, 1, 4)
    logits = torch.cat([torch.where(is_class, -1e4, 1e4), torch.where(is_class, 1e4, -1e4)], dim=1)
    assert Dice()(logits, torch.ones(1, 1, 4).long()).item() == pytest.approx(expected)


def test_large_maps() -> None:
    """Oracle: by hand, p = 0.3 on each of four million pixels; a running sum in float32 would add 0.25 most of the
    time."""
    logits = torch.tensor([0.3, 0.7]).log().view(1, 2, 1, 1).expand(1, 2, 2000, 2000)
    mask = torch.zeros(1, 2000, 2000, dtype=torch.int64)
    assert Dice()(logits, mask).item() == pytest.approx(1 - 0.6 / 1.3, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input(dtype: torch.dtype) -> None:
    """Oracle: the naive loops on the same rounded logits; more pixels than a sum in float16 can hold."""
    logits, mask = batch(0, 3, (60, 60), ignored=0.2)
    loss = Dice()(logits.to(dtype), mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(logits.to(dtype), mask), rel=1e-5)


@pytest.mark.parametrize("smooth", [0.0, 2.0])
def test_gradcheck(smooth: float) -> None:
    """Oracle: finite differences in float64; a class is absent."""
    logits, mask = batch(0, 4, (3, 4), ignored=0.3)
    mask[mask == 2] = 0
    assert torch.autograd.gradcheck(lambda x: Dice(smooth)(x, mask), logits.requires_grad_())


def test_bad_values() -> None:
    """Oracle: the documented error."""
    with pytest.raises(ValueError, match="smooth must be >= 0, got -1"):
        Dice(smooth=-1)
