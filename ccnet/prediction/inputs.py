"""Which images: a file, a folder, a pattern or a list, and what their results are called."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ccnet.data.folder import IMAGE_SUFFIXES, visible_files
from ccnet.errors import DataError
from ccnet.prediction.names import result_names
from ccnet.prediction.results import KINDS


@dataclass(frozen=True)
class Input:
    """An image file, and the name of its results below the folders of the output."""

    name: str
    path: Path


def find_inputs(where: str, output: Path) -> list[Input]:
    """The images that `--input` means.

    Args:
        where: an image file; a folder, searched with its sub-folders; a pattern such as `images/**/*.jpg`, whose
            results are named from its last folder without a wildcard; or a .txt file with a path a line, relative to
            the list's own folder. Files and folders that are there win over patterns.
        output: earlier results in it are no input of folders and patterns, which it may be inside of.

    Raises:
        DataError: nothing is there, or no image in it.
    """
    if not where:
        raise DataError("--input is empty; name an image, a folder, a pattern or a list")
    path = Path(where)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise DataError(f"--input {where}: {error.strerror}") from error
    if is_folder:
        base, found = path, visible_files(path)
    elif path.suffix.lower() == ".txt" and path.is_file():
        return _listed(path)
    elif path.exists():
        return _named([path], [PurePath(path.name)])
    elif glob.has_magic(where):
        base, found = _matching(where)
    else:
        raise DataError(f"--input {where}: no such file or folder")
    files = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    results = [Path(os.path.realpath(output), kind) for kind in KINDS]
    root = Path(os.path.realpath(base))
    names = [file.relative_to(base) for file in files]
    kept = [not any((root / name).is_relative_to(folder) for folder in results) for name in names]
    if not any(kept):
        raise DataError(f"--input {where} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return _named(*([each for each, keep in zip(some, kept, strict=True) if keep] for some in (files, names)))


def _named(files: Sequence[Path], names: Sequence[PurePath]) -> list[Input]:
    return [Input(name, file) for name, file in zip(result_names(names), files, strict=True)]


def _listed(path: Path) -> list[Input]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--input {path} is not a list of paths in UTF-8 ({error})") from error
    folder = path.parent.absolute()
    written: dict[Path, str] = {}
    for line in filter(None, map(str.strip, lines)):
        written.setdefault(folder / line, line)
    if not written:
        raise DataError(f"--input {path} lists no images; write a path a line")
    return _named([path.parent / line for line in written.values()], list(map(PurePath, written.values())))


def _matching(pattern: str) -> tuple[Path, list[Path]]:
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    # Path.glob takes hidden files, too, and a ** at the end for folders alone.
    found = dict.fromkeys(map(Path, sorted(glob.glob(pattern, recursive=True))))  # noqa: PTH207
    return Path(*parts[:fixed]), [path for path in found if path.is_file()]
