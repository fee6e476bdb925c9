"""Crop-first geometry: the pixels of scale-whole-then-crop, out of the window that they need."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.data.crop import Crop, Span

PADDING = (124, 116, 104)
# Before version 5, OpenCV rounds positions to 1/32 pixel: 1/64 of the contrast along each axis.
TOLERANCE = 1 if int(cv2.__version__.split(".")[0]) >= 5 else 9


@st.composite
def spans(draw: Callable[..., Any]) -> Span:
    """Any scale from 1/4 to 4; the crop anywhere, from one pixel inside the image on either side."""
    source = draw(st.integers(1, 48))
    scaled = draw(st.integers(max(1, source // 4), 4 * source))
    length = draw(st.integers(1, 40))
    return Span(source, scaled, draw(st.integers(1 - length, scaled - 1)), length)


def noise(crop: Crop) -> tuple[Any, Any]:
    """An image and a mask of random values: the hardest case for resampling."""
    rng, size = np.random.default_rng(0), (crop.rows.source, crop.columns.source)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 19, size, dtype=np.uint8)


def cut(whole: Any, crop: Crop, padding: Any) -> Any:
    """The crop of a scaled image that is padded far on all sides."""
    far = max(crop.rows.length, crop.columns.length)
    padded = np.empty((whole.shape[0] + 2 * far, whole.shape[1] + 2 * far, *whole.shape[2:]), np.uint8)
    padded[...] = padding
    padded[far : far + whole.shape[0], far : far + whole.shape[1]] = whole
    top, left = crop.rows.start + far, crop.columns.start + far
    return padded[top : top + crop.rows.length, left : left + crop.columns.length]


@settings(max_examples=150, deadline=None)
@given(rows=spans(), columns=spans())
def test_images_are_those_of_scaling_the_whole(rows: Span, columns: Span) -> None:
    """Oracle: cv2.resize of the whole image, padding, then slicing; to rounding."""
    crop = Crop(rows, columns)
    image, _ = noise(crop)
    whole = cv2.resize(image, (columns.scaled, rows.scaled), interpolation=cv2.INTER_LINEAR)
    found, expected = crop.image(image, PADDING).astype(int), cut(whole, crop, PADDING).astype(int)
    assert found.shape == (rows.length, columns.length, 3)
    assert np.abs(found - expected).max() <= TOLERANCE


@settings(max_examples=150, deadline=None)
@given(rows=spans(), columns=spans())
def test_masks_are_those_of_scaling_the_whole(rows: Span, columns: Span) -> None:
    """Oracle: the source pixel under each centre, in exact fractions, as a loop; and no label but these and 255."""
    crop = Crop(rows, columns)
    _, mask = noise(crop)
    sources = [
        [int((x + Fraction(1, 2)) * span.source / span.scaled) for x in range(span.scaled)] for span in (rows, columns)
    ]
    whole = mask[np.ix_(*sources)]
    assert np.array_equal(crop.labels(mask), cut(whole, crop, 255))


@pytest.mark.parametrize("factor", [0.5, 0.63, 0.77, 1.0, 1.31, 1.9, 2.0])
def test_masks_are_those_of_albumentations(factor: float) -> None:
    """Oracle: RandomScale with exact nearest sampling; a centre on the border of two pixels may go to either."""
    mask = np.random.default_rng(1).integers(0, 255, (90, 120), dtype=np.uint8)
    pipeline = A.Compose([A.RandomScale((factor - 1, factor - 1), p=1)], mask_interpolation=cv2.INTER_NEAREST_EXACT)
    expected = pipeline(image=np.zeros((90, 120, 3), np.uint8), mask=mask)["mask"]
    height, width = expected.shape
    found = Crop(Span(90, height, 0, height), Span(120, width, 0, width)).labels(mask)
    clear = [(2 * np.arange(scaled) + 1) * source % (2 * scaled) > 0 for source, scaled in ((90, height), (120, width))]
    assert np.array_equal(found[np.ix_(*clear)], expected[np.ix_(*clear)])
    assert factor == 0.5 or found[np.ix_(*clear)].size > 0.7 * found.size


@settings(max_examples=100, deadline=None)
@given(rows=spans(), columns=spans())
def test_image_and_mask_show_the_same_place(rows: Span, columns: Span) -> None:
    """Oracle: a grid whose pixels hold their own position: image and mask differ by half a source pixel at most."""
    crop, steps = Crop(rows, columns), 5  # grey levels per pixel, so that the image resolves a fifth of one
    y, x = np.mgrid[: rows.source, : columns.source].astype(np.uint8)
    image = crop.image(np.stack([steps * y, steps * x, x], axis=-1), (0, 0, 0)).astype(float) / steps
    rounding = (0.5 + TOLERANCE) / steps
    for channel, positions in enumerate((y, x)):
        mask = crop.labels(positions)
        shown = mask != 255
        assert np.abs(image[..., channel] - mask)[shown].max(initial=0) <= 0.5 + rounding


class Recorder:
    """An array that remembers what was read of it."""

    def __init__(self, array: Any) -> None:
        self.array, self.read = array, 0
        self.shape = array.shape

    def __getitem__(self, window: Any) -> Any:
        part = self.array[window]
        self.read += part.shape[0] * part.shape[1]
        return part


@pytest.mark.parametrize("scaled", [(100, 200), (200, 400), (400, 800)])
def test_only_the_window_is_read(scaled: tuple[int, int]) -> None:
    """Oracle: the crop's size at the source's scale, with one pixel more on each side."""
    crop = Crop(Span(200, scaled[0], 30, 50), Span(400, scaled[1], 77, 60))
    most = (50 * 200 / scaled[0] + 2) * (60 * 400 / scaled[1] + 2)
    for read, shape in ((lambda array: crop.image(array, PADDING), (200, 400, 3)), (crop.labels, (200, 400))):
        array = Recorder(np.zeros(shape, np.uint8))
        read(array)  # type: ignore[operator]
        assert 0 < array.read <= most


def test_read_only_arrays_serve() -> None:
    """Oracle: the result of the same array writable; maps of files are read-only."""
    crop = Crop(Span(30, 40, 3, 20), Span(30, 40, 5, 20))
    image, mask = noise(crop)
    expected = crop.image(image, PADDING), crop.labels(mask)
    image.flags.writeable = mask.flags.writeable = False
    for found, wanted in zip((crop.image(image, PADDING), crop.labels(mask)), expected, strict=True):
        assert np.array_equal(found, wanted)
        assert found.flags.writeable
