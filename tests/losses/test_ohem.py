"""Hard example mining against a plain loop that follows its definition."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torch.nn import functional as F

from ccnet.losses.ohem import OHEM, Normaliser


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


@pytest.mark.parametrize("min_kept", [0, 3, 1000])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.1])
@pytest.mark.parametrize("normaliser", ["kept", "valid", "all"])
def test_normalisers(normaliser: Normaliser, ignored: float, min_kept: int) -> None:
    """Oracle: the naive loop's mean, times its number of kept pixels, over the number that the word names."""
    logits, mask = batch(0, 4, 5, 100, ignored)
    mean, kept = naive(logits, mask, 0.3, min_kept)
    count = {"kept": kept, "valid": int((mask != 255).sum()), "all": mask.numel()}[normaliser]
    loss = OHEM(0.3, min_kept, normaliser)(logits, mask)
    assert loss.item() == pytest.approx(mean * kept / max(1, count), rel=1e-9, abs=1e-12)


def official(p: NDArray[np.float64], labels: NDArray[np.int64], threshold: float, min_kept: int, mode: str) -> float:
    """T of the official code: probabilities zoomed to 1/8 with order 1, labels with order 0, the k-th smallest there.

    `mode` "constant" is the official one. Where rounding puts the last position a little outside of the image, as at
    713 pixels, it reads 0 there, and the last row and column of labels becomes road; "nearest" is the same elsewhere.
    """
    small, small_labels = (
        zoom(a, (1,) * (a.ndim - 2) + (1 / 8, 1 / 8), order=o, mode=mode) for a, o in ((p, 1), (labels, 0))
    )
    p_true = np.array([small[b, label, y, x] for (b, y, x), label in np.ndenumerate(small_labels) if label != 255])
    k = min_kept // 64
    if k >= len(p_true):
        return 1.0
    return max(threshold, np.sort(p_true)[k - 1]) if k else threshold


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ((769, 64), "constant"),
        ((41, 77), "constant"),
        ((5, 12), "constant"),
        ((713, 100), "nearest"),
        ((126, 49), "nearest"),
    ],
)
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 200), (0.2, 3000), (0.2, 0), (0.7, 10**6), (0.2, 64)])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_the_official_threshold(
    size: tuple[int, int], mode: str, threshold: float, min_kept: int, ignored: float
) -> None:
    """Oracle: scipy.ndimage.zoom as the official code calls it, in float64: which pixels are kept, and the mean."""
    logits, mask = batch(0, *size, distinct=10**6, ignored=ignored)
    p = logits.softmax(dim=1)
    bound = official(p.numpy(), mask.numpy(), threshold, min_kept, mode)
    p_true = p.gather(1, mask.where(mask != 255, 0)[:, None])[:, 0]
    kept = (mask != 255) & (p_true <= bound)
    loss = OHEM(threshold, min_kept, threshold_stride=8)
    found = loss.kept(F.cross_entropy(logits, mask, ignore_index=255, reduction="none"), logits, mask)
    at_the_bound = (p_true - bound).abs() < 1e-12  # a pixel that the map took over as it is: rounding decides
    assert torch.equal(found | at_the_bound, kept | at_the_bound)
    assert loss(logits, mask).item() == pytest.approx(-p_true[found].log().mean().item(), rel=1e-9)


@pytest.mark.parametrize("ignored", [0.0, 0.9, 1.1])
@pytest.mark.parametrize(("size", "min_kept"), [((1, 1), 10**6), ((3, 2), 10**6), ((1, 40), 10**6), ((9, 9), 2 * 64)])
def test_the_official_threshold_of_small_maps(size: tuple[int, int], min_kept: int, ignored: float) -> None:
    """Oracle: a map of at least one pixel per image; with no more valid ones than min_kept // 64, T is 1 and all are
    kept, and those that are easier than the map's, too."""
    logits, mask = batch(1, *size, distinct=100, ignored=ignored)
    expected = F.cross_entropy(logits, mask, ignore_index=255) if (mask != 255).any() else torch.zeros(())
    torch.testing.assert_close(OHEM(0.01, min_kept, threshold_stride=8)(logits, mask), expected.double())


@pytest.mark.parametrize("min_kept", [0, 64, 10**4])
def test_the_official_threshold_at_extreme_logits(min_kept: int) -> None:
    """Oracle: finite value and gradient where probabilities are 0 and 1."""
    signs, mask = batch(0, 33, 40, 99, ignored=0.2)
    logits = (signs.sign() * 1e4).float().requires_grad_()
    loss = OHEM(0.7, min_kept, threshold_stride=8)(logits, mask)
    assert loss.isfinite()
    kept_pixels(loss, logits)


@pytest.mark.parametrize("stride", [1, 8])
@pytest.mark.parametrize("min_kept", [0, 100, 10**6])
def test_no_value_is_copied_to_the_processor(stride: int, min_kept: int) -> None:
    """Oracle: the meta device, whose tensors have no values to be read."""
    logits = torch.empty(2, 4, 33, 40, device="meta", requires_grad=True)
    mask = torch.empty(2, 33, 40, device="meta", dtype=torch.int64)
    loss = OHEM(0.7, min_kept, threshold_stride=stride)(logits, mask)
    assert torch.autograd.grad(loss, logits)[0].shape == logits.shape


def test_pixels_and_classes_have_no_order() -> None:
    """Oracle: the value before, bit for bit of what is kept, whatever the order of summation."""
    logits, mask = batch(0, 9, 7, 100, ignored=0.3)
    pixels, classes = torch.randperm(63), torch.randperm(4)
    shuffled = logits[:, classes].flatten(2)[..., pixels].view_as(logits)
    renamed = torch.cat([classes.argsort(), torch.full((252,), 255)])[mask].flatten(1)[:, pixels].view_as(mask)
    torch.testing.assert_close(OHEM(0.3, 20)(shuffled, renamed), OHEM(0.3, 20)(logits, mask))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\] and min_kept be >= 0, got 0.0 and 100000"),
        ({"min_kept": -1}, "got 0.7 and -1"),
        ({"normaliser": "mean"}, "normaliser must be kept, valid or all, got mean"),
        ({"threshold_stride": 0}, "threshold_stride must be >= 1, got 0"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    """Oracle: the documented errors, which name the value and what is accepted."""
    with pytest.raises(ValueError, match=message):
        OHEM(**values)
