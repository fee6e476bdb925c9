"""Fills a cache of decoded images: see cache.py."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from rich.console import Console
from rich.progress import track

from ccnet.data.bad_samples import BadSamples
from ccnet.data.cache import entries, left_out, made_of_files, read_entry
from ccnet.data.sample import IMAGE_FORMATS, LabelledImages, Sample
from ccnet.errors import DataError

logger = logging.getLogger("ccnet")

ASIDE = ".aside"  # ends the name of an entry that is being written
HEADER = 128  # bytes of an .npy file before its pixels


def write_cache(dataset: LabelledImages, folder: Path, on_bad_sample: Literal["error", "skip"] = "error") -> int:
    """Writes the entries that are missing, stale or damaged, each aside, flushed and renamed.

    A killed writer loses the entry that it was at. Of several processes one writes at a time; the others wait, and find
    its entries.

    Args:
        dataset: made of files.
        folder: of the cache.
        on_bad_sample: a sample that cannot be read is an error, or is left out, named, and counted as by `BadSamples`.

    Returns:
        How many entries were written.

    Raises:
        DataError: a folder that cannot be written to, too little room on the disk, a sample that cannot be read, or
            too many of them.
    """
    source = made_of_files(dataset)
    bad = BadSamples(len(source))
    with _alone(folder):
        for abandoned in folder.glob(f"*{ASIDE}"):  # by processes that were killed
            _remove(abandoned)
        wanted = entries(source, folder)
        lacking = [index for index, entry in enumerate(wanted) if not _is_whole(entry)]
        _require_room(folder, [source.pairs[index].image for index in lacking])
        console, hidden = Console(stderr=True), not sys.stderr.isatty()
        for index in track(lacking, "Caching decoded images", console=console, disable=hidden):
            try:
                sample = source[index]
            except DataError as error:
                if on_bad_sample == "error":
                    raise
                _leave_out(wanted[index], str(error))
                bad.add({index: str(error)})
            else:
                _write_entry(wanted[index], sample)
        _remove_stale(folder, wanted)
    bad.report()
    return len(lacking) - len(bad.skipped)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:  # an OSError too
        logger.info("another process is filling %s; waiting for it", folder)
        lock.acquire()
    except OSError as error:
        raise DataError(f"{folder} cannot be written to ({error}); name another place with cache=FOLDER") from error
    try:
        yield
    finally:
        lock.release()


def _is_whole(entry: Path) -> bool:
    try:
        read_entry(entry)
    except DataError:
        return False
    return True


def _require_room(folder: Path, images: Sequence[Path]) -> None:
    needed = sum(4 * _pixels(path) + HEADER for path in images)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{len(images)} decoded images need {needed} bytes in {folder}, where {free} are free; make room, or name "
            "another disk with cache=FOLDER"
        )


def _pixels(path: Path) -> int:
    """How many an image has, out of its header; none where it cannot be read, which reading the sample will tell."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            return image.width * image.height
    except Exception:  # Pillow's readers raise almost anything on damaged files
        return 0


def _leave_out(entry: Path, reason: str) -> None:
    _remove(entry)
    try:
        left_out(entry).write_text(reason, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{left_out(entry)} could not be written ({error})") from error


def _remove_stale(folder: Path, wanted: Sequence[Path]) -> None:
    """Removes what the same files were as they were before a change, and notes of samples that can be read now."""
    sources = {_source(entry) for entry in wanted}
    kept = {entry if entry.is_file() else left_out(entry) for entry in wanted}
    for path in (*folder.glob("*.npy"), *folder.glob("*.bad")):
        if path not in kept and _source(path) in sources:
            _remove(path)


def _source(entry: Path) -> str:
    return entry.name.partition("-")[0]


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows keeps a file that a run has mapped; the next call finds it again
        path.unlink()


def _write_entry(target: Path, sample: Sample) -> None:
    height, width = sample["mask"].shape
    rows = np.concatenate([sample["image"].reshape(3 * height, width), sample["mask"]])
    aside = target.with_name(target.name + ASIDE)
    try:
        with aside.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise DataError(f"{target} could not be written ({error}); it needs {rows.nbytes + HEADER} bytes") from error
