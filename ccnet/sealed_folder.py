"""Folders of files under a SHA-256 manifest that are there whole or not at all, whenever the power goes."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ccnet.errors import CheckpointError

MANIFEST = "MANIFEST.json"
ASIDE = ".aside"  # ends the name of a folder that is being written or deleted
REPLACED = ".replaced"  # ends the name of a folder whose successor is being put in its place
MOST_BYTES = 1 << 36  # that a file is read of: far beyond any network here
MOST_BYTES_OF_JSON = 1 << 26


def write(target: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder aside, every byte flushed to the disk, the manifest last, then renames it.

    What a writer left behind when it was killed is removed: only one process at a time may write beside `target`.

    Args:
        target: the folder; one that is there already stays until the new one can take its place.
        files: contents by name.

    Raises:
        CheckpointError: the disk refuses; what was there before is as it was.
    """
    aside = target.with_name(target.name + ASIDE)
    manifest = {name: _entry(data) for name, data in files.items()}
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
            _flush_names(target.parent.parent)
        sweep(target.parent)
        aside.mkdir()
        for name, data in [*files.items(), (MANIFEST, json.dumps(manifest, indent=1).encode())]:
            _write_through(aside / name, data)
        _flush_names(aside)
        _put_in_place(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        size = sum(map(len, files.values()))
        raise CheckpointError(f"{target} could not be written ({error}); it needs {size} bytes") from error


def read(path: Path, needed: Collection[str], optional: Collection[str] = ()) -> dict[str, bytes]:
    """The contents of files whose hashes are those of the manifest; the bytes returned are the bytes hashed.

    Args:
        path: the folder.
        needed: names of files that must be there.
        optional: names of files that may be missing from the manifest.

    Raises:
        CheckpointError: no manifest, or one that names other files; a file that is missing, damaged, or no plain file.
    """
    manifest = read_manifest(path)
    if unknown := manifest.keys() - {*needed, *optional}:  # one flipped bit makes another name of an optional one
        raise CheckpointError(f"{path / MANIFEST} is damaged: it names {', '.join(sorted(unknown))}")
    names = [*needed, *(name for name in optional if name in manifest)]
    return {name: _read_verified(path / name, manifest) for name in names}


def read_one(path: Path, name: str) -> bytes:
    """One file of a folder, as `read`, whatever the others are."""
    return _read_verified(path / name, read_manifest(path))


def write_file(path: Path, data: bytes) -> None:
    """A single file that is there whole, as it was before or as it shall be, whenever the power goes."""
    aside = path.with_name(f"{path.name}.{os.getpid()}{ASIDE}")  # two runs may write the same
    aside.unlink(missing_ok=True)
    try:
        _write_through(aside, data)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    _flush_names(path.parent)


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 by the name of the file.

    Raises:
        CheckpointError: there is none, or it is none.
    """
    try:
        manifest: dict[str, dict[str, Any]] = json.loads(read_plain_file(path / MANIFEST))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise CheckpointError(f"{path / MANIFEST} is not a manifest")
    return manifest


def delete(path: Path) -> None:
    """Removes a folder; killed on the way, it leaves one that `sweep` removes."""
    doomed = path.with_name(path.name + ASIDE)
    path.rename(doomed)
    shutil.rmtree(doomed)


def sweep(folder: Path) -> None:
    """Removes what writers and deleters left behind when they were killed; what cannot be removed stays."""
    for abandoned in folder.glob(f"*{ASIDE}"):
        shutil.rmtree(abandoned, ignore_errors=True)


def read_plain_file(path: Path, most_bytes: int = MOST_BYTES_OF_JSON) -> bytes:
    """The bytes of a file; follows no link and waits for no pipe: a stranger's folder may hold either.

    Raises:
        OSError: it cannot be read, is no plain file, or is larger than `most_bytes`.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no plain file")
        if status.st_size > most_bytes:
            raise OSError(f"it has {status.st_size} bytes, which is beyond all measure")
        return file.read()


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _put_in_place(aside: Path, target: Path) -> None:
    # A folder cannot be replaced in one move; its predecessor remains readable under another name meanwhile.
    replaced = target.with_name(target.name + REPLACED)
    if target.exists():
        if replaced.exists():
            delete(replaced)
        target.rename(replaced)
    aside.rename(target)
    _flush_names(target.parent)
    if replaced.exists():
        with suppress(OSError):  # the new one stands; who deletes what is old finds this one, too, and tells
            delete(replaced)


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    """Makes the names in a folder durable where folders can be flushed (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_verified(path: Path, manifest: Mapping[str, Mapping[str, Any]]) -> bytes:
    try:
        data = read_plain_file(path, MOST_BYTES_OF_JSON if path.suffix == ".json" else MOST_BYTES)
    except (OSError, MemoryError) as error:  # a file of holes may be larger than the memory
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if _entry(data) != manifest.get(path.name):
        raise CheckpointError(f"{path} is damaged: its {len(data)} bytes are not those that were saved")
    return data
