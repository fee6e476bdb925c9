"""What is kept of the worst pictures."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.evaluation.outcome import Picture
from ccnet.evaluation.worst import WorstPictures, shrunk


def picture(height: int, width: int, name: str = "it", *, region: bool = False) -> Picture:
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask, prediction, place = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
    return Picture(name, image, mask, prediction, place if region else None)


SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan]), max_size=12)


@given(SCORES, st.integers(0, 5))
def test_the_lowest_are_kept_in_order(scores: list[float], number: int) -> None:
    """Oracle: a stable sort of all that have a score."""
    worst = WorstPictures(number)
    for index, score in enumerate(scores):
        worst.add(score, picture(1, 1, str(index)))
    order = sorted((i for i, score in enumerate(scores) if not math.isnan(score)), key=lambda i: scores[i])
    assert [kept.name for kept in worst.pictures] == [str(i) for i in order[:number]]


@pytest.mark.parametrize(
    ("size", "small"), [((1024, 2048), (512, 1024)), ((1536, 3072), (512, 1024)), ((1, 4000), (1, 1024))]
)
def test_large_pictures_shrink(size: tuple[int, int], small: tuple[int, int]) -> None:
    """Oracle: means of blocks for the image, within rounding; labels that are those of one pixel of the block."""
    whole = picture(*size, region=True)
    found = shrunk(whole)
    assert found.image.shape == (*small, 3)
    factor = size[1] // small[1]
    if size[0] > 1 and size[1] % small[1] == 0:
        blocks = whole.image.reshape(small[0], factor, small[1], factor, 3)
        assert np.abs(found.image - blocks.mean(axis=(1, 3))).max() <= 1
    for name in ("mask", "prediction", "region"):
        labels, own = getattr(whole, name), getattr(found, name)
        assert (own.shape, own.dtype) == (small, np.dtype("uint8"))
        if size[1] % small[1] == 0:
            assert np.array_equal(own, labels[factor // 2 :: factor, factor // 2 :: factor])


@pytest.mark.parametrize("region", [True, False])
def test_small_pictures_are_copied(region: bool) -> None:
    """Oracle: the picture itself, in memory of its own: the batch that it is a part of must not be kept."""
    whole = picture(7, 1024, region=region)
    found = shrunk(whole)
    for name in ("image", "mask", "prediction", "region"):
        if getattr(whole, name) is not None:
            assert np.array_equal(getattr(found, name), getattr(whole, name))
            assert not np.shares_memory(getattr(found, name), getattr(whole, name))
    assert (found.region is None) is not region
