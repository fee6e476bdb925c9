"""Intervals against a naive loop over the same draws, a closed form, and a simulation whose truth is known."""

import math
import tracemalloc

import numpy as np
import pytest
import torch

from ccnet.evaluation import bootstrap
from ccnet.evaluation.bootstrap import Interval, Intervals, intervals, mean_and_iou, paired
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import ImageScores

NORMAL_975 = 1.959963984540054


def image(name: str, *counts: list[int]) -> ImageScores:
    return ImageScores(name, np.array(counts, dtype=np.int64), 0.5, "0" * 64)


def some_images(count: int = 9, num_classes: int = 5, seed: int = 0, quality: float = 1.0) -> list[ImageScores]:
    """Every class is in about half of the images, class 3 in two, class 4 in none, and one image holds nothing; the
    masks depend on count and num_classes alone."""
    masks, rng = np.random.default_rng(77), np.random.default_rng(seed)
    true = masks.integers(1, 500, (count, num_classes)) * (masks.random((count, num_classes)) < 0.5)
    true[:, 3] *= np.arange(count) < 2
    true[:2, 3] += 40
    hits = np.floor(true * quality * rng.random((count, num_classes))).astype(np.int64)
    predicted = hits + rng.integers(0, 50, (count, num_classes)) * (true > 0)
    for counts in (true, hits, predicted):
        counts[:, 4], counts[-1] = 0, 0
    return [image(f"{index}.png", *each) for index, each in enumerate(zip(hits, true, predicted, strict=True))]


def naive_scores(images: list[ImageScores]) -> list[float]:
    """mIoU and IoU in Python's own integers, NaN where there is none."""
    iou = []
    for index in range(images[0].counts.shape[1]):
        hits, true, predicted = (sum(int(each.counts[row, index]) for each in images) for row in range(3))
        union = true + predicted - hits
        iou.append(hits / union if union else math.nan)
    there = [value for value in iou if not math.isnan(value)]
    return [sum(there) / len(there) if there else math.nan, *iou]


def naive_quantile(values: list[float], share: float) -> float:
    """Linear between the two nearest."""
    values = sorted(value for value in values if not math.isnan(value))
    position = share * (len(values) - 1)
    below = min(int(position), len(values) - 2)
    return values[below] + (position - below) * (values[below + 1] - values[below])


def draws(num_images: int, resamples: int, seed: int) -> list[list[int]]:
    return np.random.Generator(np.random.PCG64(seed)).integers(num_images, size=(resamples, num_images)).tolist()


def told(found: Intervals) -> list[Interval]:
    return [found.mean_iou, *found.iou]


def check(found: Intervals, values: list[float], samples: list[list[float]]) -> None:
    for interval, value, column in zip(told(found), values, zip(*samples, strict=True), strict=True):
        if math.isnan(value):
            assert math.isnan(interval.value)
            assert (interval.low, interval.high, interval.reason) == (None, None, "not there")
        else:
            ends = [naive_quantile(list(column), share) for share in (0.025, 0.975)]
            assert [interval.value, interval.low, interval.high] == pytest.approx([value, *ends], abs=1e-12)


@pytest.mark.parametrize("block", [bootstrap.BLOCK, 30])
def test_intervals_are_those_of_a_naive_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a loop in Python over the same draws; also where they fall into blocks of three, the last one shorter."""
    monkeypatch.setattr(bootstrap, "BLOCK", block)
    images = some_images()
    samples = [naive_scores([images[index] for index in draw]) for draw in draws(len(images), 200, seed=3)]
    assert sum(math.isnan(sample[4]) for sample in samples) > 10  # class 3 is absent from some draws
    check(intervals(images, resamples=200, seed=3), naive_scores(images), samples)


@pytest.mark.parametrize("block", [bootstrap.BLOCK, 30])
def test_paired_differences_are_those_of_a_naive_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a loop in Python that scores both models on the same draws."""
    monkeypatch.setattr(bootstrap, "BLOCK", block)
    first, second = some_images(), some_images(seed=1, quality=0.8)
    scored = [
        [naive_scores([images[index] for index in draw]) for images in (first, second)]
        for draw in draws(len(first), 200, seed=3)
    ]
    found = paired(first, second, resamples=200, seed=3)
    check(found.first, naive_scores(first), [one for one, _ in scored])
    check(found.second, naive_scores(second), [two for _, two in scored])
    values = [two - one for one, two in zip(naive_scores(first), naive_scores(second), strict=True)]
    check(found.difference, values, [[b - a for a, b in zip(*pair, strict=True)] for pair in scored])
    assert found.first == intervals(first, resamples=200, seed=3)


def test_the_interval_tends_to_the_normal_one() -> None:
    """Oracle: with one class and the same union in every image, IoU is a mean of independent numbers, whose interval is
    mean ± 1.96 s / sqrt(N)."""
    hits = np.random.default_rng(0).integers(200, 1000, 400)
    found = intervals([image(str(index), [hit], [1000], [hit]) for index, hit in enumerate(hits)], resamples=20_000)
    half = NORMAL_975 * hits.std() / 1000 / math.sqrt(400)
    assert found.iou[0].value == pytest.approx(hits.mean() / 1000, abs=1e-12)
    assert found.iou[0].low == pytest.approx(hits.mean() / 1000 - half, abs=0.03 * half)
    assert found.iou[0].high == pytest.approx(hits.mean() / 1000 + half, abs=0.03 * half)
    assert found.mean_iou == found.iou[0]


def test_intervals_cover_the_truth() -> None:
    """Oracle: of 200 data sets whose expected IoU is known, 90 to 99 % of the intervals hold it, and of the differences
    of two models that share what is hard in an image; without the pairing the interval would be far wider."""
    rng = np.random.default_rng(5)
    truth = [np.mean([275 / (550 + (extra - 1) / 2) for extra in extras]) for extras in ((101, 201), (301, 401))]
    covered, widths = np.zeros(2), []
    for _ in range(200):
        true = rng.integers(100, 1001, (60, 2))
        hits = rng.integers(0, true + 1)
        models = []
        for extras in ((101, 201), (301, 401)):
            predicted = hits + rng.integers(0, extras, (60, 2))
            rows = zip(hits, true, predicted, strict=True)
            models.append([image(str(index), *row) for index, row in enumerate(rows)])
        found = paired(*models, resamples=300)
        for index, (each, value) in enumerate([(found.first, truth[0]), (found.difference, truth[1] - truth[0])]):
            covered[index] += each.mean_iou.low <= value <= each.mean_iou.high
        widths.append([each.mean_iou.high - each.mean_iou.low for each in (found.first, found.difference)])
    assert all(180 <= count <= 198 for count in covered), covered
    alone, together = np.mean(widths, axis=0)
    assert together < 0.7 * alone


def test_what_is_distinguishable_from_zero() -> None:
    """Oracle: a model against itself differs by exactly nothing, against one as good by nothing to be told, against a
    clearly worse one by something, in either direction."""
    good, as_good, bad = some_images(60), some_images(60, seed=1), some_images(60, quality=0.5)
    itself = paired(good, good).difference.mean_iou
    assert (itself.value, itself.low, itself.high, itself.excludes_zero) == (0, 0, 0, False)
    assert not paired(good, as_good).difference.mean_iou.excludes_zero
    worse, better = (paired(*pair).difference.mean_iou for pair in ((good, bad), (bad, good)))
    assert worse.excludes_zero
    assert worse.value < 0
    assert better.excludes_zero
    assert [better.low, better.high] == pytest.approx([-worse.high, -worse.low])


@pytest.mark.parametrize(("low", "high", "excludes"), [
    (0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False),
    (None, None, False),
])  # fmt: skip
def test_zero_and_the_ends(low: float | None, high: float | None, excludes: bool) -> None:
    """Oracle: an end that is 0 does not exclude it."""
    assert Interval(0.1, low, high).excludes_zero is excludes


def test_what_rests_on_one_image_has_no_interval() -> None:
    """Oracle: by hand: a data set of one image; a class that one of three images holds, and the mean beside it; images
    without a valid pixel beside the one that has some."""
    one, two, three = (
        image("1", [5, 2], [9, 3], [6, 4]),
        image("2", [3, 0], [9, 0], [6, 0]),
        image("3", [2, 0], [4, 0], [2, 0]),
    )
    nothing = image("0", [0, 0], [0, 0], [0, 0])
    for images in ([one], [one, nothing, nothing]):
        assert told(intervals(images)) == [
            Interval(value, None, None, "one image only") for value in ((0.5 + 2 / 5) / 2, 0.5, 2 / 5)
        ]
    mean, first, second = told(intervals([one, two, three]))
    assert second == Interval(2 / 5, None, None, "one image only")
    assert mean.low < mean.value < mean.high
    assert first.low < first.value < first.high


def test_nothing_valid_at_all() -> None:
    """Oracle: no score, no interval, no warning; and without images an error."""
    nothing = image("0", [0, 0], [0, 0], [0, 0])
    for interval in told(intervals([nothing, nothing])):
        assert math.isnan(interval.value)
        assert interval.reason == "not there"
        assert interval.as_dict() == {"value": None, "low": None, "high": None, "reason": "not there"}
    with pytest.raises(ValueError, match="no images"):
        intervals([])


def test_a_class_that_one_model_alone_sees_counts_in_its_mean_and_has_no_difference() -> None:
    """Oracle: by hand: the second class is in no mask; A predicts it, which is an IoU of 0; B has none."""
    seeing = [image(str(index), [4, 0], [5, 0], [4, 1]) for index in range(4)]
    blind = [image(str(index), [4, 0], [5, 0], [5, 0]) for index in range(4)]
    found = paired(seeing, blind)
    assert [each.value for each in told(found.first)] == pytest.approx([0.4, 0.8, 0])
    assert [each.value for each in told(found.second)][:2] == pytest.approx([4 / 6, 4 / 6])
    assert found.difference.mean_iou.value == pytest.approx(4 / 6 - 0.4)
    assert found.difference.iou[1].reason == "not there"


def test_a_class_in_one_image_of_each_model() -> None:
    """Oracle: by hand: a class of no mask, which A predicts in the first image and B in the second: an IoU of 0 that
    rests on one image for each, and on two for the difference, over the draws that have both."""
    plain = [image(str(index), [4, 0], [5, 0], [5, 0]) for index in range(4)]
    found = paired(
        [image("0", [4, 0], [5, 0], [4, 1]), *plain[1:]], [plain[0], image("1", [4, 0], [5, 0], [4, 1]), *plain[2:]]
    )
    for side in (found.first, found.second):
        assert side.iou[1] == Interval(0, None, None, "one image only")
    assert found.difference.iou[1] == Interval(0, 0, 0)


def test_other_images_are_no_pair() -> None:
    """Oracle: the error."""
    images = some_images()
    for others in (images[:-1], images[::-1]):
        with pytest.raises(ValueError, match="the same images in the same order"):
            paired(images, others)


def test_the_same_arguments_give_the_same_bits() -> None:
    """Oracle: a second call; another seed gives other ends; counts that are thrice as large are the same ratios of
    integers, which float64 divides to the same bits."""
    images = some_images()
    assert intervals(images) == intervals(images)
    assert intervals(images, seed=1).mean_iou.low != intervals(images).mean_iou.low
    larger = [ImageScores(each.name, each.counts * 3, each.loss, each.digest) for each in images]
    assert intervals(larger).mean_iou == intervals(images).mean_iou


def test_sums_are_exact_up_to_two_to_the_53() -> None:
    """Oracle: Python's integers: float32 sums, or one rounding on the way, would end elsewhere."""
    hits, true = 2**51 + 1, 2**51 + 3
    images = [image("1", [hits], [true], [hits]), image("2", [1], [1], [1])]
    assert mean_and_iou(images).tolist() == [(hits + 1) / (true + 1)] * 2


def test_scores_are_those_of_the_confusion_matrix() -> None:
    """Oracle: `Scores` of the whole set's matrix, a class of it absent."""
    matrices = np.random.default_rng(2).integers(0, 99, (6, 4, 4))
    matrices[:, 2], matrices[:, :, 2] = 0, 0
    images = [image("0", each.diagonal(), each.sum(axis=1), each.sum(axis=0)) for each in matrices]
    scores = Scores(torch.from_numpy(matrices.sum(axis=0)), "abcd")
    expected = [scores.mean_iou, *scores.iou.tolist()]
    assert mean_and_iou(images).tolist() == pytest.approx(expected, nan_ok=True, abs=1e-15)


def test_memory_of_a_large_data_set() -> None:
    """Oracle: tracemalloc: 5000 images of 150 classes stay below 120 MB over several blocks of draws."""
    counts = np.random.default_rng(0).integers(0, 1000, (5000, 3, 150))
    counts[:, 1:] += counts[:, :1]
    images = [ImageScores(str(index), each, 0.5, "") for index, each in enumerate(counts)]
    tracemalloc.start()
    try:
        found = intervals(images, resamples=700)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120e6, peak
    assert found.mean_iou.low < found.mean_iou.value < found.mean_iou.high
