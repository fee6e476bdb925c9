"""Scaling, padding and cropping in one step: only the part of the source that a crop shows is read and resampled.

In image and mask alike the centre of pixel x of the scaled image shows the source at (x + 1/2) * source / scaled - 1/2.
A mask is the same as if the whole of it were scaled, padded on all sides and then cropped. An image is so to rounding
from OpenCV 5 on; before it, positions are rounded to 1/32 pixel, which shifts a value by up to 1/64 of the contrast
between neighbours along each axis: a few grey levels at sharp edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from ccnet.data.sample import IGNORE_INDEX

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Span:
    """A crop along one axis, in pixels.

    Attributes:
        source: length of the image as it is.
        scaled: its length once scaled.
        start: first pixel of the crop in the scaled image; negative where padding comes first.
        length: of the crop.
    """

    source: int
    scaled: int
    start: int
    length: int

    @property
    def shown(self) -> slice:
        """The part of the crop that shows the image; the rest is padding."""
        return slice(max(0, -self.start), min(self.length, self.scaled - self.start))

    @property
    def step(self) -> float:
        """Pixels of the source per pixel of the crop."""
        return self.source / self.scaled

    def position(self, pixel: int) -> float:
        """Where in the source the centre of a pixel of the crop lies."""
        return (self.start + pixel + 0.5) * self.step - 0.5

    @property
    def window(self) -> slice:
        """The pixels of the source that the shown part is interpolated from."""
        first, last = self.position(self.shown.start), self.position(self.shown.stop - 1)
        return slice(max(0, floor(first)), min(self.source, floor(last) + 2))

    @property
    def nearest(self) -> NDArray[np.int64]:
        """The pixel of the source under the centre of each shown one, in whole numbers."""
        pixels = np.arange(self.shown.start, self.shown.stop) + self.start
        return (2 * pixels + 1) * self.source // (2 * self.scaled)


@dataclass(frozen=True)
class Crop:
    """A crop of a scaled and padded image."""

    rows: Span
    columns: Span

    def image(self, image: Pixels, padding: Sequence[int]) -> Pixels:
        """The crop of an image (H, W, 3), bilinear without antialiasing, with padding of one colour."""
        import cv2

        rows, columns = self.rows, self.columns
        y, x = (span.position(span.shown.start) - span.window.start for span in (rows, columns))
        # OpenCV resamples four channels in half the time of three.
        resampled = cv2.warpAffine(
            cv2.cvtColor(image[rows.window, columns.window], cv2.COLOR_RGB2RGBA),
            np.array([[columns.step, 0, x], [0, rows.step, y]]),
            (columns.shown.stop - columns.shown.start, rows.shown.stop - rows.shown.start),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        shown = np.asarray(cv2.cvtColor(resampled, cv2.COLOR_RGBA2RGB), np.uint8)
        if shown.shape[:2] == (rows.length, columns.length):
            return shown
        result = np.full((rows.length, columns.length, 3), padding, np.uint8)
        result[rows.shown, columns.shown] = shown
        return result

    def labels(self, labels: Pixels) -> Pixels:
        """The crop of a label map (H, W), nearest, with padding that is ignored."""
        import cv2

        rows, columns = self.rows.nearest, self.columns.nearest
        window = labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # Rows are copied as a whole and columns pixel by pixel: hence the transposes.
        columns_first = cv2.transpose(window.take(rows - rows[0], axis=0)).take(columns - columns[0], axis=0)
        result = np.full((self.rows.length, self.columns.length), IGNORE_INDEX, np.uint8)
        result[self.rows.shown, self.columns.shown] = cv2.transpose(columns_first)
        return result
