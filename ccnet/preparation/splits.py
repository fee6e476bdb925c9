"""Which images of a folder are for training and which for validation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from ccnet.data.folder import image_files, split_list
from ccnet.data.pairing import paired
from ccnet.data.sample import FilePair
from ccnet.errors import DataError
from ccnet.preparation.published_folder import publish_text

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")


def existing_splits(root: Path) -> tuple[str, str] | None:
    """The names of the training and the validation split where a folder has both, as lists or as sub-folders.

    Raises:
        DataError: a list of one of them only.
    """
    train, val = (_first(root, names) for names in (TRAIN_NAMES, VAL_NAMES))
    if train is not None and val is not None:
        return train, val
    missing = "val" if val is None else "train"
    alone = split_list(root, train or val or "")
    if alone is not None:
        raise DataError(f"{alone} is a list, and there is none for {missing}; write {missing}.txt beside it")
    return None


def undivided(root: Path) -> list[FilePair]:
    """All images with their masks, or those in images/train where there is one; named below images/.

    Raises:
        DataError: missing partners.
    """
    train = next((name for name in TRAIN_NAMES if (root / "images" / name).is_dir()), "")
    images, masks = (root / part / train for part in ("images", "masks"))
    pairs = paired(image_files(images), image_files(masks), where=images)
    return [replace(pair, name=(PurePosixPath(train) / pair.name).as_posix()) for pair in pairs]


def draw_splits(names: Sequence[str], val_share: float, seed: int) -> dict[str, list[str]]:
    """Names for training and for validation, drawn at random by the seed; the same for the same names in any order.

    Raises:
        DataError: fewer than two names.
    """
    if len(names) < 2:
        raise DataError(f"{len(names)} labelled images cannot be divided; training and validation need one each")
    ordered, num_val = sorted(names), min(max(round(len(names) * val_share), 1), len(names) - 1)
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    drawn = {"train": order[num_val:], "val": order[:num_val]}
    return {split: sorted(ordered[index] for index in indices) for split, indices in drawn.items()}


def write_lists(root: Path, splits: dict[str, list[str]]) -> None:
    """Writes root/splits/SPLIT.txt."""
    for split, names in splits.items():
        publish_text(root / "splits" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def _first(root: Path, names: Sequence[str]) -> str | None:
    """The first split that is there."""

    def there(name: str) -> bool:
        return split_list(root, name) is not None or all((root / part / name).is_dir() for part in ("images", "masks"))

    return next((name for name in names if there(name)), None)
