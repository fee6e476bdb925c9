"""PASCAL VOC 2012, as its archive unpacks: VOCdevkit/VOC2012."""

from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from ccnet.data.folder import read_lines
from ccnet.data.label_map import LabelMap, table_of
from ccnet.data.pairing import paired, require_folder
from ccnet.data.sample import Color, SegmentationDataset
from ccnet.errors import ConfigError, DataError

CLASS_NAMES = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip


def voc_color(index: int) -> tuple[int, int, int]:
    """The colour of a class in VOC's palette: the bits of the index, dealt out to red, green and blue from the top."""
    red = green = blue = 0
    for bit in range(8):
        red |= (index >> (3 * bit) & 1) << (7 - bit)
        green |= (index >> (3 * bit + 1) & 1) << (7 - bit)
        blue |= (index >> (3 * bit + 2) & 1) << (7 - bit)
    return red, green, blue


class VOC(SegmentationDataset):
    """21 classes with the background; masks are palette PNGs read as indices, the border is ignored.

    Args:
        root: the folder that holds JPEGImages/, SegmentationClass/ and ImageSets/.
        split: a list in ImageSets/Segmentation: train, val, trainval, or trainaug with the masks of the SBD data set
            in SegmentationClassAug/, which `ccnet.preparation.voc.prepare` makes.
        label_map: stored index -> class or 255; see `label_map.table_of`.
        class_names: of a `label_map` of one's own; None for the 21.
        palette: likewise.

    Raises:
        DataError: no such list, or missing files.
        ConfigError: a label map that contradicts the classes, or class names without one.
    """

    def __init__(
        self,
        root: str,
        split: str,
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        palette: Sequence[Color] | None = None,
    ) -> None:
        if label_map is None and class_names is not None:
            raise ConfigError("dataset.class_names of one's own need a dataset.label_map from VOC's indices to them")
        folder = require_folder(Path(root), "the VOC folder")
        names = read_list(folder, split)
        masks = folder / ("SegmentationClassAug" if split.endswith("aug") else "SegmentationClass")
        image_files = {name: folder / "JPEGImages" / f"{name}.jpg" for name in names}
        mask_files = {name: masks / f"{name}.png" for name in names}
        missing = [path for path in [*image_files.values(), *mask_files.values()] if not path.is_file()]
        if missing:
            listed = ", ".join(str(path) for path in missing[:5])
            raise DataError(f"{len(missing)} files of the VOC split {split} are missing: {listed}")
        classes = CLASS_NAMES if class_names is None else class_names
        super().__init__(
            paired(image_files, mask_files, where=folder),
            classes,
            [voc_color(index) for index in range(len(CLASS_NAMES))] if palette is None else palette,
            None if label_map is None else table_of(label_map, len(classes)),
        )


def list_path(folder: Path, split: str) -> Path:
    """Where the names of a split stand."""
    return folder / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_list(folder: Path, split: str) -> list[str]:
    """The names of a split's images.

    Raises:
        DataError: there is no such list, or it holds other than names.
    """
    path = list_path(folder, split)
    if not path.is_file():
        raise DataError(
            f"{path}: no such list of images; set dataset.root or the split to what is there, "
            "or let python tools/prepare_data.py voc --download fetch the data set"
        )
    return read_names(path)


def read_names(path: Path) -> list[str]:
    """The lines of a list of images, each the name of a file without folder and extension.

    Raises:
        DataError: no text, or a line with a folder.
    """
    names = read_lines(path)
    for name in names:
        if name == ".." or PureWindowsPath(name).name != name:
            raise DataError(f"{path} names {name}; expected a file's name, without folder and extension")
    return names
