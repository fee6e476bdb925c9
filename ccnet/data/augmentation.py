"""Training augmentation on albumentations; every sample's randomness is a function of its seed alone."""

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ccnet.data.sample import IGNORE_INDEX, Sample

MEAN_COLOR = (124, 116, 104)  # of ImageNet: padding is about 0 after the default normalisation


class Unchanged:
    """Samples as they are: for images of one size that need no augmentation."""

    def __call__(self, sample: Sample, seed: np.random.SeedSequence) -> Sample:
        """The sample itself, with all that it holds."""
        return sample


class ScaleCropFlip:
    """Random scale, padding, random crop, horizontal flip, colour jitter.

    Args:
        crop_size: height and width of what comes out, in pixels.
        scale: smallest and largest factor.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: largest relative change of each, in half of the samples.
        hue: largest shift, as a share of the colour circle.
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
    ) -> None:
        # albumentations and the OpenCV behind it take seconds to import; evaluation does without both.
        import albumentations as A
        import cv2

        height, width = crop_size
        smallest, largest = scale
        self.pipeline = A.Compose(
            [
                A.RandomScale((smallest - 1, largest - 1), p=1),  # its limits are relative to 1
                A.PadIfNeeded(height, width, fill=MEAN_COLOR, fill_mask=IGNORE_INDEX),
                A.RandomCrop(height, width),
                A.HorizontalFlip(p=flip),
                A.ColorJitter((1 - brightness, 1 + brightness), (1 - contrast, 1 + contrast),
                              (1 - saturation, 1 + saturation), (-hue, hue), p=0.5),
            ],
            # Plain INTER_NEAREST samples half a source pixel beside the image's bilinear resize.
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            strict=True,
        )  # fmt: skip

    def __call__(self, sample: Sample, seed: np.random.SeedSequence) -> Sample:
        """A sample of any size -> one of `crop_size`, the same for the same seed."""
        # One generator shared by all transforms: Compose(seed=...) would give each of them the same stream.
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(int(seed.generate_state(1)[0])))
        result: dict[str, NDArray[np.uint8]] = self.pipeline(image=sample["image"], mask=sample["mask"])
        return {"image": result["image"], "mask": result["mask"], "name": sample["name"]}
