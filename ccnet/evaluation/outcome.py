"""What an evaluation found, beside the scores themselves."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ccnet.evaluation.bootstrap import Interval, Intervals, intervals
from ccnet.evaluation.metrics import Scores


@dataclass(frozen=True)
class Picture:
    """A sample with what the model made of it: image (H, W, 3), mask, prediction and region (H, W), all uint8."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    region: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ImageScores:
    """What one image adds to the scores.

    Args:
        name: of the sample.
        counts: int64 (3, C): of each class the pixels that are right, those of the mask, and those predicted; ignored
            pixels count nowhere.
        loss: mean of -log p(true class) over its valid pixels, in nats; NaN without any.
        digest: SHA-256 of its image and mask as they were evaluated, hexadecimal.
    """

    name: str
    counts: NDArray[np.int64]
    loss: float
    digest: str

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class (C,); NaN where neither mask nor prediction has the class."""
        hits, true, predicted = self.counts
        union = (true + predicted - hits).astype(np.float64)
        return np.divide(hits, union, out=np.full(len(union), np.nan), where=union > 0)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that mask or prediction have; NaN where every pixel is ignored."""
        scored = self.iou[~np.isnan(self.iou)]
        return float(scored.mean()) if len(scored) else math.nan


@dataclass(frozen=True)
class Outcome:
    """Of one evaluation, over all ranks.

    Args:
        scores: of the whole data set.
        images: each image once, in the data set's order.
        pictures: the first images.
        worst: those of the lowest mean IoU, the worst first.
    """

    scores: Scores
    images: Sequence[ImageScores]
    pictures: Sequence[Picture] = ()
    worst: Sequence[Picture] = ()

    @cached_property
    def intervals(self) -> Intervals:
        """95 % of a bootstrap over the images, which takes seconds: once, and only if asked for."""
        if self.images:
            return intervals(self.images)
        return Intervals(Interval(math.nan), [Interval(math.nan)] * len(self.scores.class_names))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and digests of all images in their order: equal for equal data, hexadecimal."""
        found = hashlib.sha256()
        for image in self.images:
            found.update(f"{image.name}\0{image.digest}\0".encode(errors="surrogatepass"))
        return found.hexdigest()
