"""Class names, and colours where they are told: classes.txt (a name a line) or labelmap.txt (name:r,g,b, as CVAT)."""

from dataclasses import dataclass
from pathlib import Path

from ccnet.data.folder import read_lines
from ccnet.data.palette import as_color
from ccnet.errors import DataError

FILE_NAMES = ("classes.txt", "labelmap.txt")


@dataclass(frozen=True)
class ClassFile:
    """The classes in their order; colours for all of them or for none."""

    path: Path
    names: list[str]
    colors: list[tuple[int, int, int]]


def find_class_file(root: Path) -> Path | None:
    """classes.txt or labelmap.txt of a folder."""
    return next((root / name for name in FILE_NAMES if (root / name).is_file()), None)


def read_class_file(path: Path) -> ClassFile:
    """Reads either form; lines that begin with # are comments.

    Raises:
        DataError: no names, a name twice, a colour that is none, or colours for some classes only.
    """
    rows = [line.split(":") for line in read_lines(path) if not line.startswith("#")]
    names = [row[0].strip() for row in rows]
    colored = [row[1] for row in rows if len(row) > 1]
    if not names or not all(names) or len(set(names)) < len(names) or any("${" in name for name in names):
        raise DataError(f"{path} must name each class once, a line each")
    if colored and len(colored) < len(names):
        raise DataError(f"{path} gives colours to {len(colored)} of {len(names)} classes; give one to each or to none")
    try:
        colors = [as_color([int(channel) for channel in text.split(",")], "a class") for text in colored]
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected name:red,green,blue") from None
    return ClassFile(path, names, colors)
