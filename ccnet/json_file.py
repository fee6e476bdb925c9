"""The --json option of tools that print tables."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ccnet.errors import UserError
from ccnet.sealed_folder import write_file


def require_place(path: Path) -> None:
    """Told before the work whose result the file shall take.

    Raises:
        UserError: a folder, or a file in none.
    """
    if path.is_dir():
        raise UserError(f"--json {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--json {path}: there is no folder {path.parent}")


def write(path: Path, text: str) -> None:
    """The file is there whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    require_place(path)
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise UserError(f"--json {path} cannot be written ({error}); name another file") from error


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A list of rows, one per line.

    Raises:
        UserError: as `write`.
    """
    lines = ",\n".join(json.dumps(row) for row in rows)
    write(path, f"[\n{lines}\n]\n")
