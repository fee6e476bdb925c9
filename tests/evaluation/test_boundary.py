"""Boundary counts against the erosion of each class by itself."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ccnet.evaluation.boundary import BoundaryCounts, band, band_width

SIZES = [(1, 1), (1, 9), (3, 3), (7, 40), (40, 25), (90, 60), (4, 150)]


def boundary_of(mask: NDArray[np.uint8], ratio: float = 0.02) -> NDArray[np.uint8]:
    """`mask_to_boundary` as it stands in the authors' repository (bowenc0221/boundary-iou-api), a binary mask at a
    time."""
    height, width = mask.shape
    dilation = max(1, round(ratio * np.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), dtype=np.uint8), iterations=dilation)
    return mask - eroded[1 : height + 1, 1 : width + 1]


def counts_of(prediction: NDArray[np.uint8], mask: NDArray[np.uint8], num_classes: int) -> list[list[int]]:
    """Class by class; ignored pixels belong to none, in the prediction either."""
    predicted = np.where(mask == 255, 255, prediction)
    bands = [[boundary_of((labels == c).astype(np.uint8)) for c in range(num_classes)] for labels in (mask, predicted)]
    both = [true & found for true, found in zip(*bands, strict=True)]
    return [[int(pixels.sum()) for pixels in each] for each in (both, *bands)]


def patches(size: tuple[int, int], seed: int, num_classes: int = 4) -> NDArray[np.uint8]:
    """Rectangles of classes and of 255, some of them a pixel wide."""
    rng = np.random.default_rng(seed)
    labels = np.full(size, rng.integers(num_classes), dtype=np.uint8)
    for _ in range(rng.integers(9)):
        top, left = rng.integers(size[0]), rng.integers(size[1])
        bottom, right = top + rng.integers(1, size[0] + 1), left + rng.integers(1, size[1] + 1)
        labels[top:bottom, left:right] = rng.choice([*range(num_classes), 255])
    return labels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_eroding_class_by_class(size: tuple[int, int], seed: int) -> None:
    """Oracle: the authors' function on each class's mask; two images are added up."""
    counts, expected = BoundaryCounts(4), np.zeros((3, 4), np.int64)
    for part in (0, 1):
        mask, prediction = patches(size, 100 * part + seed), patches(size, 100 * part + seed + 50) % 5 % 4
        counts.update(torch.from_numpy(prediction), torch.from_numpy(mask))
        expected += counts_of(prediction, mask, 4)
    assert counts.counts.tolist() == expected.tolist()
    assert counts.counts.dtype == torch.int64


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_a_band_is_what_erosion_takes_away(height: int, width: int, distance: int, seed: int) -> None:
    """Oracle: OpenCV's erosion of each label, `distance` times, with zeros around the image."""
    labels = patches((height, width), seed)
    expected = np.zeros((height, width), bool)
    for label in np.unique(labels):
        padded = np.pad((labels == label).astype(np.uint8), 1)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
        expected |= (labels == label) & (eroded == 0)
    assert np.array_equal(band(torch.from_numpy(labels), distance).numpy(), expected)


@pytest.mark.parametrize(("size", "width"), [((1024, 2048), 46), ((512, 512), 14), ((1, 1), 1), ((60, 80), 2)])
def test_width_of_a_band(size: tuple[int, int], width: int) -> None:
    """Oracle: 2 % of 2289.7, 724.1, 1.4 and 100 pixels."""
    assert band_width(*size) == width


def test_by_hand() -> None:
    """Two classes left and right of a line, which the prediction has one pixel further left; a band is one pixel wide,
    and runs along the image's border, too. Oracle: the counts on squared paper."""
    mask, prediction = torch.zeros(2, 6, 8, dtype=torch.uint8)
    mask[:, 4:], prediction[:, 3:] = 1, 1
    counts = BoundaryCounts(3)
    counts.update(prediction, mask)
    # Truth: two boxes of 6 x 4, 24 - 4 * 2 = 16 pixels each; prediction: 6 x 3 and 6 x 5: 18 - 4 = 14 and 30 - 12 = 18.
    assert counts.counts.tolist() == [[10, 12, 0], [16, 16, 0], [14, 18, 0]]


def test_ignored_pixels_count_nowhere_and_end_a_class() -> None:
    """Oracle: whatever is predicted there, the same counts; the pixels beside them are a boundary on both sides, and a
    perfect prediction has an IoU of one."""
    mask = torch.zeros(60, 80, dtype=torch.uint8)
    mask[20:40, 30:50] = 255
    found = []
    for wrong in (0, 1, 2):
        counts = BoundaryCounts(2)
        counts.update(mask.where(mask != 255, wrong), mask)
        found.append(counts.counts.tolist())
    border = 60 * 80 - 56 * 76
    around = 24 * 24 - 20 * 20
    assert found == [[[border + around, 0]] * 3] * 3


def test_nothing_but_ignored_pixels() -> None:
    """Oracle: no counts."""
    counts = BoundaryCounts(2)
    counts.update(torch.zeros(5, 5, dtype=torch.uint8), torch.full((5, 5), 255, dtype=torch.uint8))
    assert not counts.counts.any()
