"""Folders and files that are either whole or absent, whatever happens while they are written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ccnet.data.folder import read_lines
from ccnet.errors import DataError

MARK = "made_by_prepare_data.txt"
MADE = "tools/prepare_data.py made these files; --overwrite replaces them where the folder holds no others:"


@contextmanager
def published_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder to write into; it takes its place when the block ends well, and vanishes when it does not.

    The folder gets a file that lists what was made: it is only overwritten while it holds nothing else.

    Raises:
        DataError: the target exists and may not be overwritten, or the disk refuses.
    """
    refuse_existing(target, overwrite)
    _refuse_others(target)
    aside = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        shutil.rmtree(aside, ignore_errors=True)  # of a killed process that had the same number
        aside.mkdir(parents=True)
        yield aside
        made = "".join(f"{name}\n" for name in sorted(_files(aside)))
        (aside / MARK).write_text(f"{MADE}\n{made}", encoding="utf-8", errors="backslashreplace", newline="\n")
        _put_in_place(aside, target)
    except OSError as error:
        raise DataError(f"{target} could not be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_others(target: Path) -> None:
    if not target.exists():
        return
    if not (target / MARK).is_file():
        raise DataError(f"{target} was not made by prepare_data and is not overwritten; move it away")
    if others := _files(target) - set(read_lines(target / MARK)) - {MARK}:
        raise DataError(
            f"{target / min(others)} was not made with the rest of {target}, which would be lost; move it away"
        )


def _files(folder: Path) -> set[str]:
    """All files by their path below the folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def _put_in_place(aside: Path, target: Path) -> None:
    # A folder cannot be replaced in one move; its predecessor waits under another name until the new one stands.
    old = target.with_name(f"{target.name}.old-{os.getpid()}")
    if target.exists():
        target.rename(old)
    try:
        aside.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def publish_text(target: Path, text: str, *, overwrite: bool = False) -> None:
    """Writes a file aside and renames it.

    Raises:
        DataError: the target exists and may not be overwritten, or the disk refuses.
    """
    refuse_existing(target, overwrite)
    aside = target.with_name(f"{target.name}.part-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8", newline="\n")
        aside.replace(target)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise DataError(f"{target} could not be written: {error}") from error


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Before any work is done for what could not be written.

    Raises:
        DataError: the target exists and may not be overwritten.
    """
    if target.exists() and not overwrite:
        raise DataError(f"{target} exists already; name another --output, or add --overwrite")
