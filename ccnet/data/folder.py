"""Anyone's data: images/ and masks/ with equal names."""

from collections.abc import Sequence
from pathlib import Path

from ccnet.data.sample import Color, SegmentationDataset, paired, require_folder
from ccnet.errors import DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their relative path without extension.

    Raises:
        DataError: two files that differ in their extension only.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{found[name]} and {path} would have the same name; rename one of them")
        found[name] = path
    return found


class Folder(SegmentationDataset):
    """images/SPLIT/NAME.jpg (or another common extension) with masks/SPLIT/NAME.png, class indices, 255 = ignored.

    Args:
        root: the folder that holds images/ and masks/.
        split: name of the sub-folder of both.
        class_names: one per class index.
        palette: one RGB colour per class.
    """

    def __init__(self, root: str, split: str, class_names: Sequence[str], palette: Sequence[Color]) -> None:
        images = require_folder(Path(root) / "images" / split, "the image folder")
        masks = require_folder(Path(root) / "masks" / split, "the mask folder")
        super().__init__(paired(image_files(images), image_files(masks), where=images), class_names, palette)
