"""Files such as metrics.jsonl: one JSON object a line, in the order of steps, whole after a crash at any moment."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ccnet.errors import UserError


class RowFile:
    """Rows of a run. A row is written in one piece; what a crash cut short is dropped by the next `begin_after`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin_after(self, step: int) -> list[dict[str, Any]]:
        """Cuts off the rows beyond a step, because they come again; returns those of the step itself."""
        if not self.path.is_file():
            return []
        length, rows = 0, []
        for line in self.path.read_bytes().splitlines(keepends=True):
            row = _parse(line)
            if row is None or row["step"] > step:
                break
            length += len(line)
            rows.append(row)
        # In place: a crash leaves the file as it was or cut, and no second file to be renamed.
        os.truncate(self.path, length)
        return [row for row in rows if row["step"] == step]

    def append(self, step: int, row: Mapping[str, Any]) -> None:
        """Adds a row; numbers that are not finite, which JSON does not know, are left out.

        Raises:
            UserError: the disk refuses.
        """
        known = {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}
        with writing(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps({"step": step, **known}) + "\n")

    def flush(self) -> None:
        """Returns when the rows are on the disk.

        Raises:
            UserError: the disk refuses.
        """
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A file of the run's log is written inside.

    Raises:
        UserError: the disk refuses; what was trained since the last checkpoint is lost.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); free some space or mend its permissions, then run "
            "the same command again: it goes on from the last checkpoint"
        ) from error


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = line.endswith(b"\n") and isinstance(row, dict) and type(row.get("step")) is int
    return row if whole else None
