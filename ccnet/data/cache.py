"""Decoded images in files that are mapped into memory: a crop reads the rows and columns that it shows, and no more.

FOLDER/SOURCE-STATE.npy    uint8 (4 H, W): the bytes of the image (H, W, 3), then the class indices of the mask
FOLDER/SOURCE-STATE.bad    in its place, where the sample cannot be read and may be left out: what is wrong, as text

SOURCE is a hash of the paths of image and mask, as configured, and of what stored labels mean; STATE is one of size and
time of change of both files. So an entry whose files have changed since is never taken for one of what they hold now,
and one of other masks, or of the same ones read otherwise, never takes its place.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccnet.data.sample import Color, FilePair, LabelledImages, Sample, SegmentationDataset
from ccnet.errors import DataError

FORMAT = 1  # of the entries: raise it when the same files give other bytes
RENEW = "python tools/prepare_data.py cache, with the dataset, cache and train_split of this run,"


class CachedImages:
    """A data set whose images and masks come out of a cache, as read-only maps of its files.

    The entries are compared with the files that they were made of once, here; a run then keeps to them. A sample that
    the cache had to leave out is an error when it is asked for.

    Args:
        dataset: the data set itself.
        folder: what `cache_writer.write_cache` has filled.

    Raises:
        DataError: images that are not in the cache, or have changed since.
    """

    region_names: Sequence[str] = ()

    def __init__(self, dataset: LabelledImages, folder: str | Path) -> None:
        self.dataset = made_of_files(dataset)
        self.entries = entries(self.dataset, Path(folder))
        there = set(Path(folder).iterdir()) if Path(folder).is_dir() else set()
        lacking = [index for index, entry in enumerate(self.entries) if not {entry, left_out(entry)} & there]
        if lacking:
            first = self.dataset.pairs[lacking[0]].image
            raise DataError(
                f"the cache {folder} lacks {len(lacking)} of {len(self.entries)} images, or holds them as they were "
                f"before a change, first {first}; {RENEW} brings it up to date"
            )

    @property
    def pairs(self) -> Sequence[FilePair]:
        """The files that the samples were made of."""
        return self.dataset.pairs

    @property
    def class_names(self) -> list[str]:
        return self.dataset.class_names

    @property
    def palette(self) -> Sequence[Color]:
        return self.dataset.palette

    @property
    def num_classes(self) -> int:
        return self.dataset.num_classes

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Maps a sample; its pixels are read where they are used.

        Raises:
            DataError: a damaged entry, or a sample that the cache had to leave out.
        """
        image, mask = read_entry(self.entries[index])
        return {"image": image, "mask": mask, "name": self.pairs[index].name}

    def labels(self, index: int) -> NDArray[np.uint8]:
        """Maps the mask of a sample: uint8 (H, W).

        Raises:
            DataError: as for the sample.
        """
        return read_entry(self.entries[index])[1]


def made_of_files(dataset: LabelledImages) -> SegmentationDataset:
    """The data set itself.

    Raises:
        DataError: it draws its samples, or has no masks.
    """
    if not isinstance(dataset, SegmentationDataset) or not dataset.labelled:
        raise DataError(f"{type(dataset).__name__} is not made of image and mask files to cache; set cache=null")
    return dataset


def entries(dataset: SegmentationDataset, folder: Path) -> list[Path]:
    """The file of each sample, whether it is there or not.

    Raises:
        DataError: an image or mask is gone.
    """
    table = None if dataset.label_table is None else dataset.label_table.tolist()
    reader = getattr(dataset.read_labels, "__qualname__", repr(dataset.read_labels))
    meaning = _digest(FORMAT, dataset.class_names, table, reader)
    return [_entry(folder, meaning, [path for path in (pair.image, pair.mask) if path]) for pair in dataset.pairs]


def left_out(entry: Path) -> Path:
    """What lies in the place of an entry whose sample cannot be read."""
    return entry.with_suffix(".bad")


def _entry(folder: Path, meaning: str, paths: Sequence[Path]) -> Path:
    try:
        states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    return folder / f"{_digest(meaning, [path.as_posix() for path in paths])}-{_digest(states)}.npy"


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:20]


def read_entry(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image (H, W, 3) and mask (H, W), mapped.

    Raises:
        DataError: the entry is gone, cut short, something else, or was left out.
    """
    try:
        rows = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        if (told := left_out(path)).is_file():
            raise DataError(told.read_text(encoding="utf-8")) from None
        raise DataError(f"{path} is damaged ({error}); {RENEW} replaces it") from None
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[0] % 4 or not rows.size:
        raise DataError(f"{path} holds {rows.dtype} {rows.shape} in place of pixels; {RENEW} replaces it")
    height, width = rows.shape[0] // 4, rows.shape[1]
    return rows[: 3 * height].reshape(height, width, 3), rows[3 * height :]
