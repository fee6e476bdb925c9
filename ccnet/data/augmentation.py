"""Training augmentation; every sample's randomness is a function of its seed alone."""

import math
import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ccnet.data.crop import Crop, Pixels, Span
from ccnet.data.palette import as_color
from ccnet.data.sample import IGNORE_INDEX, Sample
from ccnet.errors import ConfigError

MEAN_COLOR = (124, 116, 104)  # of ImageNet: padding is about 0 after the default normalisation
TRIES = 10  # of mmsegmentation's RandomCrop
ROUNDING = 1e-6  # 0.7 - 0.6 is less than 0.1


class Unchanged:
    """Samples as they are: for images of one size that need no augmentation."""

    def __call__(self, sample: Sample, seed: np.random.SeedSequence) -> Sample:
        """The sample itself, with all that it holds."""
        return sample


class ScaleCropFlip:
    """Random scale, padding, random crop, horizontal flip, blur, colour jitter.

    A sample's arrays are read in the window that the crop shows, so they may be maps of files. Whatever is left at its
    default after `hue` does nothing.

    Args:
        crop_size: height and width of what comes out, in pixels.
        scale: smallest and largest factor.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: largest relative change of each, in half of the samples.
        hue: largest shift, as a share of the colour circle, in half of the samples.
        scale_step: draws factors from smallest, smallest + step, ... up to largest; null draws any between them.
        cat_max_ratio: draws another crop while one class fills more than this share of its labelled pixels, up to
            ten in all (mmsegmentation).
        balanced: probability that a crop is centred near a pixel of a class that is drawn from those of the image,
            each as likely as the other.
        blur: probability of a Gaussian blur of sigma 0.5 to 1.5 pixels.
        jitter: whether the four changes of colour come together, or each in a half of its own (PaddleSeg).
        padding: around an image that is smaller than the crop, or at its end: below and right of it.
        padding_color: RGB, 0..255.

    Raises:
        ConfigError: a value out of its range.
    """

    def __init__(
        self,
        crop_size: Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.3,
        hue: float = 0.05,
        scale_step: float | None = None,
        cat_max_ratio: float = 1.0,
        balanced: float = 0.0,
        blur: float = 0.0,
        jitter: Literal["together", "apart"] = "together",
        padding: Literal["around", "end"] = "around",
        padding_color: Sequence[int] = MEAN_COLOR,
    ) -> None:
        # albumentations and the OpenCV behind it take seconds to import; evaluation does without both.
        import albumentations as A

        _require_geometry(crop_size, scale, scale_step)
        changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        _require_shares({"flip": flip, **changes, "cat_max_ratio": cat_max_ratio, "balanced": balanced, "blur": blur})
        _require_shares({"hue": hue}, largest=0.5)
        self.height, self.width = crop_size
        self.smallest, self.largest = scale
        self.flip, self.cat_max_ratio, self.balanced, self.scale_step = flip, cat_max_ratio, balanced, scale_step
        self.padding, self.padding_color = padding, as_color(padding_color, "augmentation.padding_color")
        changes["hue"] = hue
        jitters = (
            _jitter(**changes)
            if jitter == "together"
            else A.RandomOrder([_jitter(**{name: change}) for name, change in changes.items()], n=len(changes))
        )
        self.colors = A.Compose([A.GaussianBlur(blur_limit=0, sigma_limit=(0.5, 1.5), p=blur), jitters], strict=True)

    def __call__(self, sample: Sample, seed: np.random.SeedSequence) -> Sample:
        """A sample of any size -> one of `crop_size`, the same for the same seed."""
        import cv2

        rng = np.random.default_rng(seed)
        crop = self.draw(sample["mask"], rng)
        parts = [crop.image(sample["image"], self.padding_color), crop.labels(sample["mask"])]
        if "region" in sample:
            parts.append(crop.labels(sample["region"]))
        if rng.random() < self.flip:
            parts = [np.asarray(cv2.flip(part, 1), np.uint8) for part in parts]
        # One generator shared by all transforms: Compose(seed=...) would give each of them the same stream.
        self.colors.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result: Sample = {"image": self.colors(image=parts[0])["image"], "mask": parts[1], "name": sample["name"]}
        if "region" in sample:
            result["region"] = parts[2]
        return result

    def draw(self, mask: Pixels, rng: np.random.Generator) -> Crop:
        """Scale and place of a crop of the image that a mask belongs to."""
        factor = self._factor(rng)
        scaled, pixels = [max(1, int(length * factor)) for length in mask.shape], PixelsByClass(mask)
        for _ in range(TRIES):
            crop = self._place(pixels, scaled, rng)
            if self.cat_max_ratio == 1 or largest_share(crop.labels(mask)) <= self.cat_max_ratio:
                break
        return crop

    def _factor(self, rng: np.random.Generator) -> float:
        if self.scale_step is None:
            return rng.uniform(self.smallest, self.largest)
        steps = int((self.largest - self.smallest) / self.scale_step + ROUNDING)
        return self.smallest + self.scale_step * int(rng.integers(steps + 1))

    def _place(self, pixels: "PixelsByClass", scaled: Sequence[int], rng: np.random.Generator) -> Crop:
        """A crop anywhere, or around a pixel of a drawn class; smaller images lie in its middle or corner."""
        pixel = pixels.draw(rng) if self.balanced and rng.random() < self.balanced else None
        shape, spans = pixels.mask.shape, []
        for axis, length in enumerate((self.height, self.width)):
            slack = scaled[axis] - length
            if slack < 0:
                start = 0 if self.padding == "end" else -(-slack // 2)
            elif pixel is None:
                start = int(rng.integers(slack + 1))
            else:
                centre = int((pixel[axis] + 0.5) * scaled[axis] / shape[axis])
                near = centre - length // 2 + int(rng.integers(-(length // 4), length // 4 + 1))
                start = min(max(near, 0), slack)
            spans.append(Span(shape[axis], scaled[axis], start, length))
        return Crop(*spans)


class PixelsByClass:
    """The pixels of a mask by class; each is looked for when it is first asked for, and kept for further draws."""

    def __init__(self, mask: Pixels) -> None:
        self.mask = mask
        self.found: dict[int, NDArray[np.int64]] = {}

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """Those that the mask has."""
        return np.flatnonzero(class_counts(self.mask))

    def draw(self, rng: np.random.Generator) -> tuple[int, int] | None:
        """Row and column of a pixel of one of the classes, each as likely as the other; None where none is labelled."""
        if not len(self.classes):
            return None
        label = int(rng.choice(self.classes))
        if label not in self.found:
            self.found[label] = np.flatnonzero(self.mask == label)
        row, column = divmod(int(rng.choice(self.found[label])), self.mask.shape[1])
        return row, column


def _jitter(brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0) -> Any:
    """Changes of colour in random order, in half of the samples."""
    import albumentations as A

    factors = ((1 - change, 1 + change) for change in (brightness, contrast, saturation))
    return A.ColorJitter(*factors, (-hue, hue), p=0.5)


def largest_share(mask: Pixels) -> float:
    """The share of the commonest class in the labelled pixels; 1 where there are none."""
    counts = class_counts(mask)
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def class_counts(mask: Pixels) -> NDArray[np.float32]:
    """Pixels of each class 0..254."""
    import cv2

    counts = cv2.calcHist([mask], [0], None, [256], [0, 256])  # in a fifth of the time of np.bincount
    return np.asarray(counts, np.float32).ravel()[:IGNORE_INDEX]  # OpenCV 4 has it as a column


def _require_geometry(crop_size: Sequence[int], scale: Sequence[float], scale_step: float | None) -> None:
    if len(crop_size) != 2 or min(crop_size) < 1:
        raise ConfigError(f"augmentation.crop_size={list(crop_size)}: give height and width in pixels, at least 1")
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] < math.inf:
        raise ConfigError(f"augmentation.scale={list(scale)}: give the smallest and the largest factor, above 0")
    if scale_step is not None and not 0 < scale_step <= scale[1] - scale[0] + ROUNDING:
        raise ConfigError(
            f"augmentation.scale_step={scale_step}: a step is above 0 and at most from the smallest to the largest of "
            f"augmentation.scale={list(scale)}; null draws any factor"
        )


def _require_shares(shares: Mapping[str, float], largest: float = 1.0) -> None:
    for name, share in shares.items():
        if not 0 <= share <= largest:
            raise ConfigError(f"augmentation.{name}={share}: it lies between 0 and {largest:g}")
