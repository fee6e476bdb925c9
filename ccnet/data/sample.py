"""What a data set is, and pairs of image and mask files read as checked samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset

from ccnet.errors import DataError

IGNORE_INDEX = 255
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MASK_MODES = ("L", "P", "1", "I;16")

Color = Sequence[int]


class Sample(TypedDict):
    """image: uint8 (H, W, 3) RGB; mask: uint8 (H, W), class index or 255 = ignored; name: unique in the data set.

    region, where the data set has `region_names`: uint8 (H, W), index of one of them or 255 = none.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    name: str
    region: NotRequired[NDArray[np.uint8]]


class LabelledImages(Protocol):
    """What training and evaluation need of a data set.

    Where `region_names` is not empty, every sample has a `region`, and each region is scored beside the whole.
    """

    @property
    def class_names(self) -> list[str]: ...

    @property
    def palette(self) -> Sequence[Color]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def region_names(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class FilePair:
    """Where a sample lies; the name is what predictions and messages call it."""

    name: str
    image: Path
    mask: Path


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file -> uint8 (H, W, 3) RGB, turned upright as its EXIF orientation says.

    Raises:
        DataError: not an image of a known format, or a damaged or truncated one.
    """
    image = _open(path)
    if image.mode.startswith(("I", "F")):
        raise DataError(f"image {path} has {image.mode} pixels; convert it to 8 bits a channel")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> NDArray[np.int64]:
    """A mask file -> int64 (H, W), the raw indices as stored, turned upright like an image.

    Raises:
        DataError: a damaged file, or one that holds colours instead of indices.
    """
    image = _open(path)
    if image.mode not in MASK_MODES:
        raise DataError(f"mask {path} holds {image.mode} colours; expected one 8- or 16-bit class index per pixel")
    return np.asarray(image).astype(np.int64)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            upright: Image.Image = ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image in one of the formats {', '.join(IMAGE_FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be decoded ({error}); replace the file or take it out of the data set"
        ) from None
    return upright


class SegmentationDataset(Dataset[Sample]):
    """File pairs, and what their labels mean.

    Args:
        pairs: the files, in the order of the data set.
        class_names: one name per class index.
        palette: one RGB colour per class.
        label_table: maps a stored label (index 0..255) to a class index or 255; None keeps labels as they are.

    Raises:
        DataError: no pairs, or a palette of another length than the class names.
    """

    region_names: Sequence[str] = ()

    def __init__(
        self,
        pairs: Sequence[FilePair],
        class_names: Sequence[str],
        palette: Sequence[Color],
        label_table: NDArray[np.uint8] | None = None,
    ) -> None:
        if len(palette) != len(class_names):
            raise DataError(f"the palette has {len(palette)} colours for {len(class_names)} class names")
        if len(class_names) > IGNORE_INDEX:
            raise DataError(f"{len(class_names)} classes do not fit beside the ignored label {IGNORE_INDEX}")
        self.pairs = list(pairs)
        self.class_names = list(class_names)
        self.palette = [tuple(color) for color in palette]
        self.label_table = label_table

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Reads a sample.

        Raises:
            DataError: a file that cannot be read, sizes that differ, or a label outside the classes.
        """
        pair = self.pairs[index]
        image, stored = read_image(pair.image), read_mask(pair.mask)
        if image.shape[:2] != stored.shape:
            raise DataError(
                f"{pair.mask} is {_size(stored)} pixels and its image {pair.image} {_size(image)}; they must be equal"
            )
        return {"image": image, "mask": self._to_classes(stored, pair.mask), "name": pair.name}

    def _to_classes(self, stored: NDArray[np.int64], path: Path) -> NDArray[np.uint8]:
        mask = stored
        if self.label_table is not None and stored.max(initial=0) < len(self.label_table):
            mask = self.label_table[stored].astype(np.int64)
        wrong = np.unique(mask[(mask >= self.num_classes) & (mask != IGNORE_INDEX)])
        if len(wrong):
            listed = ", ".join(str(value) for value in wrong[:8])
            raise DataError(
                f"mask {path} holds label {listed}; the data set has classes 0..{self.num_classes - 1} "
                f"and {IGNORE_INDEX} for ignored pixels"
            )
        return mask.astype(np.uint8)


def _size(array: NDArray[np.generic]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def require_folder(path: Path, what: str) -> Path:
    """The folder itself.

    Raises:
        DataError: there is none.
    """
    if not path.is_dir():
        raise DataError(f"{what} {path} does not exist; set dataset.root to where the data set lies")
    return path


def paired(images: dict[str, Path], masks: dict[str, Path], where: Path) -> list[FilePair]:
    """Joins images and masks by name, sorted by name.

    Raises:
        DataError: an image without mask, a mask without image, or no image at all.
    """
    if not images:
        raise DataError(f"{where} holds no images; set dataset.root or the split to where they lie")
    lonely = [("mask", path) for name, path in images.items() if name not in masks]
    lonely += [("image", path) for name, path in masks.items() if name not in images]
    if lonely:
        listed = "; ".join(f"{path} has no {missing}" for missing, path in lonely[:5])
        rest = f"; and {len(lonely) - 5} more" if len(lonely) > 5 else ""
        raise DataError(f"{len(lonely)} files without a partner: {listed}{rest}")
    return [FilePair(name, images[name], masks[name]) for name in sorted(images)]
