"""Cityscapes (arXiv:1604.01685), as its two archives unpack: leftImg8bit/ and gtFine/."""

from pathlib import Path

import numpy as np

from ccnet.data.sample import IGNORE_INDEX, SegmentationDataset, paired, require_folder

CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {  # name: (labelId, colour); the order gives the train ids
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
NUM_LABEL_IDS = 34
LABEL_IDS = np.array([label_id for label_id, _ in CLASSES.values()], dtype=np.uint8)


def label_table() -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """labelId (0..255) -> train id, 255 for what is not evaluated; an id that Cityscapes does not know stays itself,
    so that the reader can complain about it."""
    table = np.arange(256, dtype=np.uint8)
    table[:NUM_LABEL_IDS] = IGNORE_INDEX
    table[LABEL_IDS] = np.arange(len(LABEL_IDS))
    return table


class Cityscapes(SegmentationDataset):
    """19 classes; labelIds become train ids while loading.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.
        split: train or val.
    """

    def __init__(self, root: str, split: str) -> None:
        images = require_folder(Path(root) / "leftImg8bit" / split, "the Cityscapes image folder")
        labels = require_folder(Path(root) / "gtFine" / split, "the Cityscapes label folder")
        pairs = paired(_by_frame(images, "_leftImg8bit.png"), _by_frame(labels, "_gtFine_labelIds.png"), where=images)
        palette = [color for _, color in CLASSES.values()]
        super().__init__(pairs, list(CLASSES), palette, label_table())


def _by_frame(folder: Path, suffix: str) -> dict[str, Path]:
    return {path.name.removesuffix(suffix): path for path in sorted(folder.glob(f"*/*{suffix}"))}
