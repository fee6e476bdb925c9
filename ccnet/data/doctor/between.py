"""The mistakes between two splits: common files, contents, names."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ccnet.data.doctor.findings import Finding, Kind, Severity, first_files
from ccnet.data.sample import FilePair

Both = tuple[FilePair, FilePair]  # of the one split and of the other


def check_between(
    splits: tuple[str, str], first: Sequence[FilePair], second: Sequence[FilePair], *, most: int | None = None
) -> list[Finding]:
    """Which images of the second split are in the first, too.

    Only files of equal size are read, which leaves few where images are compressed.

    Args:
        splits: their names.
        first: all files of one.
        second: those of the other that are looked at.
        most: files of the first that are read at most, those of equal names first; None for as many as there are.
    """
    paths = {pair.image for pair in first}
    common = [(pair, pair) for pair in second if pair.image in paths]
    apart = [pair for pair in second if pair.image not in paths]
    copies = _copies(first, apart, most)
    copied = {copy.image for _, copy in copies}
    by_name = {pair.name: pair for pair in first}
    namesakes = [(by_name[pair.name], pair) for pair in apart if pair.name in by_name and pair.image not in copied]
    found = (
        (Kind.LEAK, Severity.ERROR, copies),
        (Kind.SHARED_FILES, Severity.WARNING, common),
        (Kind.SHARED_NAMES, Severity.WARNING, namesakes),
    )
    between = " and ".join(splits)
    return [_finding(kind, severity, between, pairs, len(second)) for kind, severity, pairs in found if pairs]


def _finding(kind: Kind, severity: Severity, between: str, pairs: Sequence[Both], looked_at: int) -> Finding:
    files = [f"{one.image} = {other.image}" if kind is Kind.LEAK else str(other.image) for one, other in pairs]
    names = f"such as {pairs[0][1].name}"
    return Finding(kind, severity, between, names, first_files(files), len(pairs), looked_at)


def _copies(first: Sequence[FilePair], second: Sequence[FilePair], most: int | None) -> list[Both]:
    sizes, names = {_bytes(pair.image) for pair in second}, {pair.name for pair in second}
    likely = [pair for pair in first if _bytes(pair.image) in sizes]
    likely.sort(key=lambda pair: pair.name not in names)
    likely = likely[:most]
    by_content = {_content(pair.image): pair for pair in likely}
    sizes = {_bytes(pair.image) for pair in likely}
    contents = ((_content(pair.image), pair) for pair in second if _bytes(pair.image) in sizes)
    return [(by_content[content], pair) for content, pair in contents if content in by_content]


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:
        return -1


def _content(path: Path) -> bytes:
    """A digest; of what cannot be read, which other findings tell, the path, so that it is like nothing else."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
    return str(path).encode()
