"""What a data set is, and pairs of image and mask files read as checked samples."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset

from ccnet.data.palette import as_color
from ccnet.data.quiet_reading import quiet_reading
from ccnet.data.rgb import as_rgb
from ccnet.errors import ConfigError, DataError

IGNORE_INDEX = 255
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
MASK_FORMATS = ("PNG", "WEBP", "TIFF", "BMP")
MASK_MODES = ("L", "P", "1", "I;16", "I;16B")
COLORED_MODES = ("RGB", "RGBA")

Color = Sequence[int]
StoredLabels = NDArray[np.unsignedinteger[Any]]


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

    def labels(self, index: int) -> NDArray[np.uint8]:
        """The mask of a sample, without its image being decoded."""
        ...


@dataclass(frozen=True)
class FilePair:
    """Where a sample lies; the name is what predictions and messages call it. A test image may have no mask."""

    name: str
    image: Path
    mask: Path | None


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file -> uint8 (H, W, 3) RGB, turned upright as its EXIF orientation says.

    Raises:
        DataError: not an image of a known format, a damaged or truncated one, or one that `as_rgb` refuses.
    """
    return as_rgb(_open(path), f"image {path}")


def read_mask(path: Path) -> NDArray[np.int64]:
    """A mask file -> int64 (H, W), the raw indices as stored, turned upright like an image.

    Raises:
        DataError: as `read_stored`.
    """
    return read_stored(path).astype(np.int64)


def read_stored(path: Path) -> StoredLabels:
    """A mask file -> (H, W), the raw indices as stored, uint8 or uint16, turned upright like an image.

    Raises:
        DataError: a damaged file, a JPEG, or one that holds colours instead of indices.
    """
    return stored_labels(open_mask(path), path)


def stored_labels(image: Image.Image, path: Path) -> StoredLabels:
    """The indices of a mask that is open already, as `read_stored`; the path is for messages."""
    if image.mode not in MASK_MODES:
        raise DataError(f"mask {path} holds {image.mode} colours; expected one 8- or 16-bit class index per pixel")
    return np.asarray(image).astype(np.uint16 if image.mode.startswith("I") else np.uint8, copy=False)


def open_mask(path: Path) -> Image.Image:
    """A decoded mask file of indices or colours, turned upright.

    Raises:
        DataError: a damaged file, a JPEG, which changes labels along every border, grey of 2 or 4 bits, which Pillow
            scales to 0..255, or pixels that are neither indices nor colours.
    """
    return _open(path, _refuse_as_mask)


def _refuse_as_mask(image: ImageFile.ImageFile, path: Path) -> None:
    if image.format not in MASK_FORMATS:
        raise DataError(f"mask {path} is a {image.format}, which changes labels; make it again as PNG")
    if image.mode not in (*MASK_MODES, *COLORED_MODES):
        raise DataError(f"mask {path} is {image.mode}; save it as 8- or 16-bit index PNG")
    if shallow := re.match("L;([24])", _stored_mode(image)):
        raise DataError(f"mask {path} is {shallow[1]}-bit grey, which readers scale; save it as 8-bit")


def _stored_mode(image: ImageFile.ImageFile) -> str:
    """How the pixels of an image that is not decoded yet lie in the file, such as L;4 for four bits of grey."""
    arguments = image.tile[0][3] if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _open(path: Path, check: Callable[[ImageFile.ImageFile, Path], None] | None = None) -> Image.Image:
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is not a file")  # a pipe would be waited for
        # Opened by name, uncompressed TIFFs are mapped into memory, and read wrong where EXIF turns them.
        with path.open("rb") as file, quiet_reading:
            Image.open(file, formats=IMAGE_FORMATS).verify()  # PNG's checksums; the decoder lets some damage pass
            image = Image.open(file, formats=IMAGE_FORMATS)
            _refuse_bomb(image, path)
            if check is not None:
                check(image, path)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image in one of the formats {', '.join(IMAGE_FORMATS)}") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        raise DataError(
            f"{path} cannot be decoded ({error}); replace the file or take it out of the data set"
        ) from None
    return image


def _refuse_bomb(image: ImageFile.ImageFile, path: Path) -> None:
    """Pillow itself only warns up to twice its limit."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise DataError(f"{path} has {image.width}x{image.height} pixels; at most {most} in all are read")


class SegmentationDataset(Dataset[Sample]):
    """File pairs, and what their labels mean.

    Args:
        pairs: the files, in the order of the data set.
        class_names: one name per class index.
        palette: one RGB colour per class.
        label_table: at the index of a stored label its class index or 255; labels beyond it, and all labels without
            it, stay themselves.
        read_labels: mask file -> stored labels (H, W).

    Raises:
        DataError: a palette of another length than the class names, or too many classes.
        ConfigError: a name that two classes have, or a colour that is none.
    """

    region_names: Sequence[str] = ()

    def __init__(
        self,
        pairs: Sequence[FilePair],
        class_names: Sequence[str],
        palette: Sequence[Color],
        label_table: StoredLabels | None = None,
        read_labels: Callable[[Path], StoredLabels] = read_stored,
    ) -> None:
        if len(palette) != len(class_names):
            raise DataError(f"the palette has {len(palette)} colours for {len(class_names)} class names")
        if len(class_names) > IGNORE_INDEX:
            raise DataError(f"{len(class_names)} classes do not fit beside the ignored label {IGNORE_INDEX}")
        if twice := [name for name, count in Counter(class_names).items() if count > 1]:
            raise ConfigError(f"dataset.class_names has {twice[0]} twice; give each class a name of its own")
        self.pairs = list(pairs)
        self.class_names = list(class_names)
        self.palette = [as_color(color, "dataset.palette") for color in palette]
        self.label_table = label_table
        self.read_labels = read_labels

    @property
    def labelled(self) -> bool:
        """Whether there are masks; without them every pixel of every sample is ignored."""
        return all(pair.mask is not None for pair in self.pairs)

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
        image = read_image(pair.image)
        if pair.mask is None:
            return {"image": image, "mask": np.full(image.shape[:2], IGNORE_INDEX, np.uint8), "name": pair.name}
        mask = self.labels(index)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"{pair.mask} is {_size(mask)} pixels and its image {pair.image} {_size(image)}; they must be equal"
            )
        return {"image": image, "mask": mask, "name": pair.name}

    def labels(self, index: int) -> NDArray[np.uint8]:
        """Reads the mask of a sample, and not its image: uint8 (H, W), class index or 255.

        Raises:
            DataError: a mask that is missing or cannot be read, or a label outside the classes.
        """
        pair = self.pairs[index]
        if pair.mask is None:
            raise DataError(f"{pair.image} has no mask")
        return self._to_classes(self.read_labels(pair.mask), pair.mask)

    def _to_classes(self, stored: StoredLabels, path: Path) -> NDArray[np.uint8]:
        mask = stored if self.label_table is None else map_labels(stored, self.label_table)
        wrong = (mask >= self.num_classes) & (mask != IGNORE_INDEX)
        if wrong.any():
            listed = ", ".join(str(value) for value in np.unique(stored[wrong])[:8])
            if self.label_table is not None:
                raise DataError(f"mask {path} holds label {listed}, for which the data set's label map has no class")
            raise DataError(
                f"mask {path} holds label {listed}; the data set has classes 0..{self.num_classes - 1} "
                f"and {IGNORE_INDEX} for ignored pixels"
            )
        return mask.astype(np.uint8, copy=False)


def sample_files(dataset: LabelledImages, index: int) -> str:
    """What a message calls a sample: its image file where the data set has `pairs`, else its number."""
    pairs: Sequence[FilePair] = getattr(dataset, "pairs", ())
    return str(pairs[index].image) if pairs else f"sample {index}"


def map_labels(stored: StoredLabels, table: StoredLabels) -> StoredLabels:
    """The table's entry for every label; a label beyond the table stays itself."""
    if stored.max(initial=0) < len(table):
        return table.take(stored)
    return np.where(stored < len(table), table.take(stored, mode="clip"), stored)


def _size(array: NDArray[np.generic]) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def require_labels(dataset: LabelledImages, split: str) -> None:
    """Stops whoever wants to train on images without labels, or to score them.

    Raises:
        DataError: the data set has no masks.
    """
    if isinstance(dataset, SegmentationDataset) and not dataset.labelled:
        raise DataError(
            f"the split {split} has no labels to train on or to evaluate with; "
            "predict its images with tools/predict.py --input FOLDER, or choose another split"
        )
