"""What tutorials do for a training sample: albumentations on the whole image, and bare decoding."""

from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ccnet.data.sample import FilePair

Arrays = tuple[NDArray[Any], NDArray[Any]]


class Textbook:
    """Scale the whole image, pad, crop, flip, jitter, normalise, to tensor; the recipe is that of `ScaleCropFlip`."""

    def __init__(self, crop_size: tuple[int, int]) -> None:
        self.pipeline = A.Compose(
            [
                A.RandomScale((-0.5, 1.0), p=1),
                A.PadIfNeeded(*crop_size, fill=(124, 116, 104), fill_mask=255),
                A.RandomCrop(*crop_size),
                A.HorizontalFlip(p=0.5),
                A.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=0.5),
                A.Normalize(),
                A.ToTensorV2(),
            ],
            seed=0,
        )

    def __call__(self, image: NDArray[Any], mask: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Image (3, H, W), float32, and mask (H, W)."""
        result = self.pipeline(image=image, mask=mask)
        return result["image"], result["mask"]


def decode_cv2(pair: FilePair) -> Arrays:
    """Image (H, W, 3) RGB and mask (H, W), through OpenCV, unchecked."""
    image, mask = cv2.imread(str(pair.image)), cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert mask is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), mask


def decode_pillow(pair: FilePair) -> Arrays:
    """The same through Pillow."""
    assert pair.mask is not None
    with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
        return np.asarray(image), np.asarray(mask)
