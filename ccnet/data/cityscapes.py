"""Cityscapes (arXiv:1604.01685), as its archives unpack: leftImg8bit/, gtFine/ and gtCoarse/."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ccnet.data.label_map import LabelMap, table_of
from ccnet.data.pairing import paired, require_folder
from ccnet.data.sample import IGNORE_INDEX, Color, FilePair, LabelledImages, SegmentationDataset, read_stored
from ccnet.errors import ConfigError, DataError

logger = logging.getLogger("ccnet")

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
NUM_VERIFIED = 3  # files of train ids, each time that the data set is opened
IMAGE_SUFFIX = "_leftImg8bit.png"
LABEL_IDS = np.array([label_id for label_id, _ in CLASSES.values()], dtype=np.uint8)

LabelIds = np.ndarray[tuple[int], np.dtype[np.uint8]]


def label_table() -> LabelIds:
    """labelId (0..255) -> train id, 255 for what is not evaluated; an id that Cityscapes does not know stays itself,
    so that the reader can complain about it."""
    table = np.arange(256, dtype=np.uint8)
    table[:NUM_LABEL_IDS] = IGNORE_INDEX
    table[LABEL_IDS] = np.arange(len(LABEL_IDS))
    return table


class Cityscapes(SegmentationDataset):
    """19 classes; labelIds become train ids while loading. Files `*_labelTrainIds.png` serve instead where every image
    has one and no `label_map` is set.

    Args:
        root: the folder that holds leftImg8bit/ and gtFine/.
        split: train, val, trainval, test (which has no labels) or train_extra (gtCoarse); `train+train_extra` joins.
        labels: fine, or coarse for train and val out of gtCoarse too.
        label_map: labelId -> class or 255, in place of the official table; see `label_map.table_of`.
        class_names: of a `label_map` of one's own; None for the 19.
        palette: likewise.

    Raises:
        DataError: missing files or partners, or train ids that are not those of the labelIds.
        ConfigError: a label map that contradicts the classes, or class names without one.
    """

    def __init__(
        self,
        root: str,
        split: str,
        labels: Literal["fine", "coarse"] = "fine",
        label_map: LabelMap | None = None,
        class_names: Sequence[str] | None = None,
        palette: Sequence[Color] | None = None,
    ) -> None:
        if label_map is None and class_names is not None:
            raise ConfigError("dataset.class_names of one's own need a dataset.label_map from labelIds to them")
        parts = {"trainval": "train+val"}.get(split, split).split("+")
        images = {name: path for part in parts for name, path in _images(Path(root), part).items()}
        names = list(CLASSES) if class_names is None else class_names
        colors = [color for _, color in CLASSES.values()] if palette is None else palette
        self.label_map = label_map
        if split == "test":
            pairs = [FilePair(name, images[name], None) for name in sorted(images)]
            super().__init__(pairs, names, colors)
            return
        folders = [_label_folder(Path(root), part, labels) for part in parts]
        where = Path(root) / "leftImg8bit"
        ids, train_ids = (_by_frame(folders, f"_{kind}.png") for kind in ("labelIds", "labelTrainIds"))
        if label_map is None and images.keys() <= train_ids.keys():
            _verify_train_ids(train_ids, ids)
            super().__init__(paired(images, train_ids, where), names, colors)
        else:
            table = label_table() if label_map is None else table_of(label_map, len(names))
            super().__init__(paired(images, ids, where), names, colors, table)

    @property
    def label_ids(self) -> LabelIds:
        """The labelId of each class (C,), which is what the test server wants to see.

        Raises:
            ConfigError: the label map gives a class to several labelIds, or to none.
        """
        if self.label_map is None:
            return LABEL_IDS
        table = table_of(self.label_map, self.num_classes)[:NUM_LABEL_IDS]
        ids = [np.flatnonzero(table == index) for index in range(self.num_classes)]
        for name, own in zip(self.class_names, ids, strict=True):
            if len(own) != 1:
                raise ConfigError(f"dataset.label_map makes {name} of labelIds {own.tolist()}; a submission needs one")
        return np.concatenate(ids).astype(np.uint8)


def label_ids_of(dataset: LabelledImages) -> LabelIds:
    """The labelId of each class of a data set (C,).

    Raises:
        ConfigError: it is not Cityscapes, or as `Cityscapes.label_ids`.
    """
    if not isinstance(dataset, Cityscapes):
        raise ConfigError(f"{type(dataset).__name__} has no labelIds of Cityscapes to submit; use dataset=cityscapes")
    return dataset.label_ids


def _images(root: Path, part: str) -> dict[str, Path]:
    folder = require_folder(root / "leftImg8bit" / part, "the Cityscapes image folder")
    found = {path.name.removesuffix(IMAGE_SUFFIX): path for path in sorted(folder.glob(f"[!.]*/[!.]*{IMAGE_SUFFIX}"))}
    if not found:
        raise DataError(f"{folder} holds no images (CITY/*{IMAGE_SUFFIX}); unpack the archive there")
    return found


def _label_folder(root: Path, part: str, labels: str) -> Path:
    kind = "gtCoarse" if labels == "coarse" or part == "train_extra" else "gtFine"
    return require_folder(root / kind / part, "the Cityscapes label folder")


def _by_frame(folders: Sequence[Path], suffix: str) -> dict[str, Path]:
    """Label files by frame, which is what stands before `_gtFine` or `_gtCoarse`."""
    found = (path for folder in folders for path in sorted(folder.glob(f"[!.]*/[!.]*{suffix}")))
    return {path.name.removesuffix(suffix).rpartition("_")[0]: path for path in found}


def _verify_train_ids(train_ids: Mapping[str, Path], ids: Mapping[str, Path]) -> None:
    """Compares a few files, spread over the data set, with the labelIds beside them."""
    both = sorted(train_ids.keys() & ids.keys())
    if not both:
        first = next(iter(train_ids.values()))
        logger.warning("%s and the others hold train ids unverified: there are no labelIds beside them", first)
    for name in both[:: max(1, len(both) // NUM_VERIFIED)][:NUM_VERIFIED]:
        if not np.array_equal(read_stored(train_ids[name]), label_table()[read_stored(ids[name])]):
            raise DataError(
                f"{train_ids[name]} does not hold the train ids of {ids[name].name}; delete the *_labelTrainIds.png "
                "files, which are not needed, or make them again with cityscapesscripts"
            )
