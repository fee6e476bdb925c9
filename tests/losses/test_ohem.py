"""Hard example mining against a plain loop that follows its definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ccnet.losses.ohem import OHEM


def naive(logits: Tensor, mask: Tensor, threshold: float, min_kept: int) -> tuple[float, int]:
    """Sorts the true classes' probabilities; T = max(threshold, k-th smallest); mean of -log p where p <= T.

    Returns the loss and the number of kept pixels.
    """
    log_p = [
        float(F.log_softmax(logits[b, :, y, x].double(), dim=0)[mask[b, y, x]])
        for b, y, x in (mask != 255).nonzero().tolist()
    ]
    if not log_p:
        return 0.0, 0
    k = min(min_kept, len(log_p))
    bound = max(math.log(threshold), sorted(log_p)[k - 1]) if k else math.log(threshold)
    kept = [value for value in log_p if value <= bound]
    return (-float(np.mean(kept)) if kept else 0.0), len(kept)


def batch(seed: int, height: int, width: int, distinct: int, ignored: float, scale: float = 2) -> tuple[Tensor, Tensor]:
    """Float64 logits (2, 4, H, W) with at most `distinct` different pixels per class, so that losses tie exactly."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 4, (2, height, width), generator=generator)
    true, others = scale * torch.randn(2, distinct, generator=generator, dtype=torch.float64)
    drawn = torch.randint(0, distinct, mask.shape, generator=generator)
    is_true = F.one_hot(mask, 4).permute(0, 3, 1, 2).bool()
    logits = torch.where(is_true, true[drawn][:, None], others[drawn][:, None])
    return logits, mask.masked_fill(torch.rand(mask.shape, generator=generator) < ignored, 255)


def kept_pixels(loss: Tensor, logits: Tensor) -> int:
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    return int((gradient.abs().sum(1) > 0).sum())


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    distinct=st.sampled_from([1, 3, 100]),
    ignored=st.sampled_from([0.0, 0.4, 1.1]),
    threshold=st.sampled_from([0.05, 0.3, 0.7, 0.999]),
    min_kept=st.sampled_from([0, 1, 4, 12, 1000]),
)
def test_random_batches(
    seed: int, size: tuple[int, int], distinct: int, ignored: float, threshold: float, min_kept: int
) -> None:
    """Oracle: the naive loop, for the value and for which pixels have a gradient; ties, few and no valid pixels."""
    logits, mask = batch(seed, *size, distinct, ignored)
    logits.requires_grad_()
    loss = OHEM(threshold, min_kept)(logits, mask)
    expected, kept = naive(logits.detach(), mask, threshold, min_kept)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert kept_pixels(loss, logits) == kept


def pixels(*probabilities: float) -> tuple[Tensor, Tensor]:
    """One row of pixels whose true class, 1 of 2, has these probabilities."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    return torch.stack([(1 - p).log(), p.log()])[None, :, None].requires_grad_(), torch.ones(1, 1, len(p)).long()


@pytest.mark.parametrize(
    ("min_kept", "kept"),
    [(0, (0.1, 0.4)), (2, (0.1, 0.4)), (3, (0.1, 0.4, 0.8, 0.8)), (4, (0.1, 0.4, 0.8, 0.8)), (99, None)],
)
def test_by_hand(min_kept: int, kept: tuple[float, ...] | None) -> None:
    """Oracle: p = .1 .4 .8 .8 .95 and threshold 0.5; the third hardest ties with the fourth."""
    hard = (0.1, 0.4, 0.8, 0.8, 0.95)
    loss = OHEM(0.5, min_kept)(*pixels(*hard))
    assert loss.item() == pytest.approx(-np.log(kept or hard).mean())


def test_everything_easy() -> None:
    """Oracle: nothing kept gives 0; a minimum of one keeps the hardest."""
    logits, mask = pixels(0.9, 0.99, 0.999)
    assert OHEM(0.7, 0)(logits, mask).item() == 0
    assert OHEM(0.7, 1)(logits, mask).item() == pytest.approx(-math.log(0.9))


@pytest.mark.parametrize("min_kept", [0, 5])
def test_all_ignored(min_kept: int) -> None:
    """Oracle: the loss contract: a scalar 0 with zero gradient."""
    logits, mask = batch(0, 3, 3, 9, ignored=1.1)
    loss = OHEM(0.7, min_kept)(logits.requires_grad_(), mask)
    assert loss.shape == ()
    assert loss.item() == 0
    assert kept_pixels(loss, logits) == 0


@pytest.mark.parametrize("min_kept", [0, 3, 100])
def test_extreme_logits(min_kept: int) -> None:
    """Oracle: the naive loop in float64; probabilities of 0 and 1 at logits of +-1e4, in float32."""
    signs, mask = batch(0, 4, 4, 9, ignored=0.2)
    logits = (signs.sign() * 1e4).float().requires_grad_()
    loss = OHEM(0.7, min_kept)(logits, mask)
    assert loss.item() == pytest.approx(naive(logits.detach(), mask, 0.7, min_kept)[0], rel=1e-6)
    kept_pixels(loss, logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 200])
def test_half_precision_input(dtype: torch.dtype, size: int) -> None:
    """Oracle: float64 on the same logits; one pixel, and as many as a sum in float16 cannot hold."""
    logits, mask = batch(0, size, size, 1000, ignored=0.2)
    half = logits.to(dtype)
    expected = OHEM(0.7, 10)(half.double(), mask).item()
    assert OHEM(0.7, 10)(half, mask).item() == pytest.approx(expected, rel=1e-2)


def test_threshold_one_keeps_everything() -> None:
    """Oracle: plain cross entropy."""
    logits, mask = batch(0, 4, 4, 100, ignored=0.3)
    torch.testing.assert_close(OHEM(1.0, 0)(logits, mask), F.cross_entropy(logits, mask, ignore_index=255))
