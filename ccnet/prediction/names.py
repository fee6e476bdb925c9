"""Names of results: below the output folder whatever the input is called, and no two the same on any file system."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

LONGEST = 180  # bytes of a part; file systems end at 255, and .png and what marks a file as unfinished come behind it
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # what Windows takes for no file
UNPRINTABLE = {"Cc", "Cs"}  # control characters, and bytes that are no text
RESULT_SUFFIXES = (".png", ".npz")


def result_names(paths: Sequence[PurePath]) -> list[str]:
    """A relative name with slashes for each path, extension included, so that a.jpg and a.png are two results.

    The parts of a path stay as they are, but for `..` and roots, which are left out; what no file may be called is
    changed. Of names that some file system takes for one (A.jpg and a.jpg, or two Unicode forms of a letter), the later
    ones get a number: a~2.jpg.
    """
    taken: set[str] = set()
    names = []
    for path in paths:
        wanted = _safe(path)
        name, number = wanted, 1
        while (key := unicodedata.normalize("NFC", name.casefold())) in taken:
            number += 1
            name = _numbered(wanted, number)
        taken.add(key)
        names.append(name)
    return names


def _safe(path: PurePath) -> str:
    parts = [part for part in path.parts[bool(path.anchor) :] if part != ".."] or ["_"]
    return "/".join([*(_safe_folder(part) for part in parts[:-1]), _safe_part(parts[-1])])


def _safe_folder(part: str) -> str:
    part = _safe_part(part)
    # Windows drops dots and spaces at the end; a folder a.jpg.png would be in the way of the result of a.jpg.
    spoilt = part.endswith((".", " ")) or part.lower().endswith(RESULT_SUFFIXES)
    return f"{part}_" if spoilt else part


def _safe_part(part: str) -> str:
    part = "".join("_" if unicodedata.category(letter) in UNPRINTABLE else letter for letter in part)
    if DEVICES.fullmatch(part):
        part = f"_{part}"
    encoded = part.encode()
    if len(encoded) <= LONGEST:
        return part
    tail = f"~{hashlib.sha256(encoded).hexdigest()[:12]}{PurePath(part).suffix[:10]}"
    return encoded[: LONGEST - len(tail.encode())].decode(errors="ignore") + tail


def _numbered(name: str, number: int) -> str:
    path = PurePath(name)
    return path.with_name(f"{path.stem}~{number}{path.suffix}").as_posix()
