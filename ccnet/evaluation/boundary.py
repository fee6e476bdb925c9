"""Boundary IoU (Cheng et al. 2021, arXiv:2103.16562): intersection over union of the bands along the classes' outlines.

Ignored pixels (255) never count. The prediction takes 255 there before its band is made, so that an ignored area is a
boundary of the truth and of the prediction alike, and what was predicted in it is of no consequence.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

DIAGONAL_SHARE = 0.02
IGNORE_INDEX = 255


class BoundaryCounts:
    """Counts of each class the pixels in both bands, in the truth's and in the prediction's: int64 (3, C), on the
    device of what it is given."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Adds one image: class indices below C, uint8 (H, W); pixels whose mask is 255 do not count."""
        height, width = mask.shape
        distance = band_width(height, width)
        predicted = prediction.where(mask != IGNORE_INDEX, IGNORE_INDEX)
        true_band = mask.where(band(mask, distance), IGNORE_INDEX)
        predicted_band = predicted.where(band(predicted, distance), IGNORE_INDEX)
        both = true_band.where(true_band == predicted_band, IGNORE_INDEX)
        pixels = [labels.flatten().bincount(minlength=256) for labels in (both, true_band, predicted_band)]
        self.counts = self.counts.to(mask.device) + torch.stack(pixels)[:, : self.num_classes]


def band_width(height: int, width: int) -> int:
    """How many pixels a band is wide: 2 % of the image's diagonal, at least 1."""
    return max(1, round(DIAGONAL_SHARE * math.sqrt(height**2 + width**2)))


def band(labels: Tensor, distance: int) -> Tensor:
    """Where a label ends within a chessboard distance: at another label, or at the border of the image.

    For all labels at once what is left of the mask of each when it is eroded `distance` times by a square of 3x3, with
    zeros around the image, and taken from itself: a pixel stays in the eroded mask if the square around it lies in
    the image and holds one label only, the smallest and the largest of which then are equal.

    Args:
        labels: uint8 (H, W).
        distance: at least 1.

    Returns:
        bool (H, W).
    """
    found = torch.ones_like(labels, dtype=torch.bool)
    if min(labels.shape) > 2 * distance:
        smallest, largest = (_over_squares(labels, 2 * distance + 1, of) for of in (torch.minimum, torch.maximum))
        found[distance:-distance, distance:-distance] = smallest != largest
    return found


def _over_squares(labels: Tensor, side: int, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The smallest or largest label of every square that lies in the image: (H - side + 1, W - side + 1)."""
    for dimension in (0, 1):
        length = 1  # of the runs of labels that every element stands for; two of them make one of up to twice that
        while length < side:
            step = min(length, side - length)
            remaining = labels.shape[dimension] - step
            labels = of(labels.narrow(dimension, 0, remaining), labels.narrow(dimension, step, remaining))
            length += step
    return labels
