"""How far a score would move with other images: percentile bootstrap over the images of an evaluation.

Draw as many images as there are, with replacement; score the draw as the whole set is scored, from its added counts; do
so many times; the middle 95 % of these scores are the interval (Efron, The Annals of Statistics 7, 1979; Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). For two models the same draws serve both, so that what
is hard in an image cancels.

What it does not know: images count as independent, which frames of one video are not (then it is too narrow); with few
images it is too narrow as well; and it holds the trained model for given, so it says nothing about another seed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
BLOCK = 1 << 20  # images drawn at a time, over all draws of a block: 8 MB an array

Floats = NDArray[np.float64]


class Counted(Protocol):
    """An image: the name of the sample, and its counts, int64 (3, C): pixels of each class that are right, in the mask,
    and predicted."""

    @property
    def name(self) -> str: ...

    @property
    def counts(self) -> NDArray[np.int64]: ...


@dataclass(frozen=True)
class Interval:
    """A score, or a difference of two, and its interval.

    Args:
        value: of all images; NaN where there is none.
        low, high: ends of the interval; None where it cannot be told.
        reason: why it cannot.
    """

    value: float
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; an interval that cannot be told excludes nothing."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def as_dict(self) -> dict[str, float | str | None]:
        """Plain values for JSON; what is not there is null."""
        told = {"reason": self.reason} if self.reason else {}
        return {"value": None if math.isnan(self.value) else self.value, "low": self.low, "high": self.high, **told}


@dataclass(frozen=True)
class Intervals:
    """Of the mean IoU, and of each class's IoU in the order of the classes; all in 0..1."""

    mean_iou: Interval
    iou: Sequence[Interval]


@dataclass(frozen=True)
class Compared:
    """Scores of two, and the second minus the first."""

    first: Intervals
    second: Intervals
    difference: Intervals


def intervals(images: Sequence[Counted], resamples: int = RESAMPLES, seed: int = 0) -> Intervals:
    """95 % intervals of mIoU and IoU; the same for the same arguments, on any machine.

    A class that no image of a draw has, in mask or prediction, is left out of that draw's mean, as it is of the data
    set's; its own interval is over the draws that have it. What rests on one image alone has no interval.

    Args:
        images: at least one; the counts of any draw must add up to less than 2**53.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: no images.
    """
    counts = _counts([images])
    return _intervals(_scores(counts.sum(axis=0))[0], _resampled(counts, resamples, seed)[:, 0], _holders(counts))


def paired(first: Sequence[Counted], second: Sequence[Counted], resamples: int = RESAMPLES, seed: int = 0) -> Compared:
    """Intervals of two models and of their difference, from the same draws of the same images.

    A class that only one of them has counts in that one's mean, and has no difference.

    Args:
        first, second: of the same images in the same order.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: no images, or other images.
    """
    if [image.name for image in first] != [image.name for image in second]:
        raise ValueError("a paired comparison needs the same images in the same order")
    counts = _counts([first, second])
    values, samples = _scores(counts.sum(axis=0)), _resampled(counts, resamples, seed)
    one, two = (_intervals(values[m], samples[:, m], _holders(counts[:, m : m + 1])) for m in (0, 1))
    return Compared(one, two, _intervals(values[1] - values[0], samples[:, 1] - samples[:, 0], _holders(counts)))


def mean_and_iou(images: Sequence[Counted]) -> Floats:
    """mIoU of all images together, then the IoU of each class, (1 + C); NaN where there is none."""
    return _scores(_counts([images]).sum(axis=0))[0]


def _counts(models: Sequence[Sequence[Counted]]) -> Floats:
    """Counts (N, M, 3, C) of M models; float64 holds them, and their sums below 2**53, exactly."""
    if not models[0]:
        raise ValueError("there are no images to draw from")
    return np.stack([[image.counts for image in images] for images in models], axis=1).astype(np.float64)


def _resampled(counts: Floats, resamples: int, seed: int) -> Floats:
    """Scores (R, M, 1 + C) of draws from counts (N, M, 3, C)."""
    flat = counts.reshape(len(counts), -1)
    totals = (weights @ flat for weights in _weights(len(counts), resamples, seed))
    return np.concatenate([_scores(total.reshape(-1, *counts.shape[1:])) for total in totals])


def _weights(num_images: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each draw has each image, (r, N) a block; the draws are the same however they fall into blocks."""
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = max(1, BLOCK // num_images)
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = generator.integers(num_images, size=(block, num_images)) + num_images * np.arange(block)[:, None]
        times = np.bincount(drawn.ravel(), minlength=block * num_images)
        yield times.reshape(block, num_images).astype(np.float64)


def _scores(counts: Floats) -> Floats:
    """Counts (..., 3, C) -> mIoU, then the IoU of each class, (..., 1 + C); NaN where there is none."""
    hits, true, predicted = np.moveaxis(counts, -2, 0)
    union = true + predicted - hits
    iou = np.divide(hits, union, out=np.full_like(union, np.nan), where=union > 0)
    there = (union > 0).sum(axis=-1, keepdims=True)
    mean = np.divide(np.nansum(iou, axis=-1, keepdims=True), there, out=np.full(there.shape, np.nan), where=there > 0)
    return np.concatenate([mean, iou], axis=-1)


def _holders(counts: Floats) -> NDArray[np.int64]:
    """Of counts (N, M, 3, C), how many images have any class, and each class (1 + C), in mask or prediction."""
    pixels = counts.sum(axis=(1, 2))
    return np.count_nonzero(np.concatenate([pixels.sum(axis=1, keepdims=True), pixels], axis=1), axis=0)


def _intervals(values: Floats, samples: Floats, holders: NDArray[np.int64]) -> Intervals:
    """From values (1 + C), samples (R, 1 + C) and the number of images (1 + C) behind each."""
    mean, *iou = (_interval(*each) for each in zip(values.tolist(), samples.T, holders.tolist(), strict=True))
    return Intervals(mean, iou)


def _interval(value: float, samples: Floats, holders: int) -> Interval:
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return Interval(math.nan, reason="not there")
    if holders < 2:
        return Interval(value, reason="one image only")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(value, low, high)
