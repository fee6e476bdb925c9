"""The pictures of what went worst."""

import math
from bisect import bisect_right
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccnet.evaluation.outcome import Picture

LONGEST_SIDE = 1024


class WorstPictures:
    """Keeps the samples of the lowest mean IoU, the worst first and the earlier of equals before the later, in a size
    that does not fill the memory."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.kept: list[tuple[float, Picture]] = []

    @property
    def pictures(self) -> list[Picture]:
        """The worst first."""
        return [picture for _, picture in self.kept]

    def add(self, mean_iou: float, picture: Picture) -> None:
        """Takes note of a sample; one without a score (NaN) is never among the worst."""
        place = bisect_right(self.kept, mean_iou, key=itemgetter(0))
        if place < self.number and not math.isnan(mean_iou):
            self.kept.insert(place, (mean_iou, shrunk(picture)))
            del self.kept[self.number :]


def shrunk(picture: Picture, longest_side: int = LONGEST_SIDE) -> Picture:
    """A copy whose longest side is that many pixels at most: the image averaged over areas, labels taken from the
    nearest pixel."""
    height, width = picture.mask.shape
    factor = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))

    def resized(pixels: NDArray[np.uint8], how: Image.Resampling) -> NDArray[np.uint8]:
        return np.array(Image.fromarray(pixels).resize(size, how))

    return Picture(
        picture.name,
        resized(picture.image, Image.Resampling.BOX),
        resized(picture.mask, Image.Resampling.NEAREST),
        resized(picture.prediction, Image.Resampling.NEAREST),
        None if picture.region is None else resized(picture.region, Image.Resampling.NEAREST),
    )
