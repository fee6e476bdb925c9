"""Figures of a split: how often each class is there, sizes and colours of the images."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ccnet.data.doctor.examination import Examination, SampleFacts
from ccnet.data.doctor.files import Size
from ccnet.data.sample import IGNORE_INDEX


@dataclass(frozen=True)
class Statistics:
    """Of the samples that could be read.

    images: their number.
    class_pixels, class_images: pixels of each class, and images that have some.
    ignored_pixels: those of label 255.
    sizes: width and height, and how many images have them, the most common first.
    mean, std: of red, green and blue over all pixels, on the 0..255 scale, as `model.mean` and `model.std` want them.
    """

    images: int
    class_pixels: list[int]
    class_images: list[int]
    ignored_pixels: int
    sizes: list[tuple[Size, int]]
    mean: list[float]
    std: list[float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def statistics(examinations: Sequence[Examination], num_classes: int) -> Statistics | None:
    """Sums up what was looked at; None where nothing could be read."""
    read = [each.sample for each in examinations if each.sample is not None]
    if not read:
        return None
    pixels: Counter[int] = Counter()
    for sample in read:
        pixels.update(sample.labels)
    mean, std = _colors(read)
    return Statistics(
        images=len(read),
        class_pixels=[pixels[index] for index in range(num_classes)],
        class_images=[sum(index in sample.labels for sample in read) for index in range(num_classes)],
        ignored_pixels=pixels[IGNORE_INDEX],
        sizes=Counter(sample.size for sample in read).most_common(),
        mean=mean,
        std=std,
    )


def _colors(read: Sequence[SampleFacts]) -> tuple[list[float], list[float]]:
    total = sum(sample.size[0] * sample.size[1] for sample in read)
    mean = [sum(sums) / total for sums in zip(*(sample.color_sums for sample in read), strict=True)]
    squares = [sum(sums) / total for sums in zip(*(sample.color_squares for sample in read), strict=True)]
    std = [math.sqrt(max(square - value**2, 0.0)) for square, value in zip(squares, mean, strict=True)]
    return mean, std
