"""PASCAL VOC 2012, as its archive unpacks: VOCdevkit/VOC2012."""

from pathlib import Path

from ccnet.data.sample import SegmentationDataset, paired, require_folder
from ccnet.errors import DataError

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
            in SegmentationClassAug/.
    """

    def __init__(self, root: str, split: str) -> None:
        folder = require_folder(Path(root), "the VOC folder")
        names = _read_list(folder / "ImageSets" / "Segmentation" / f"{split}.txt")
        masks = folder / ("SegmentationClassAug" if split.endswith("aug") else "SegmentationClass")
        image_files = {name: folder / "JPEGImages" / f"{name}.jpg" for name in names}
        mask_files = {name: masks / f"{name}.png" for name in names}
        missing = [path for path in [*image_files.values(), *mask_files.values()] if not path.is_file()]
        if missing:
            raise DataError(f"{len(missing)} files of the VOC split {split} are missing, the first is {missing[0]}")
        palette = [voc_color(index) for index in range(len(CLASS_NAMES))]
        super().__init__(paired(image_files, mask_files, where=folder), CLASS_NAMES, palette)


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"{path}: no such list of images; set dataset.root, or the split to one that is there")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
