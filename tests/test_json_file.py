"""The --json option of tools."""

import errno
import json
from pathlib import Path

import pytest

from ccnet import json_file
from ccnet.errors import UserError


def test_rows_come_back(tmp_path: Path) -> None:
    """Oracle: the rows themselves, one per line."""
    rows = [{"name": "rue de l'Été", "value": 1.5}, {"name": "b", "value": None}]
    json_file.write_rows(tmp_path / "rows.json", rows)
    text = (tmp_path / "rows.json").read_text(encoding="utf-8")
    assert json.loads(text) == rows
    assert len(text.splitlines()) == len(rows) + 2


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message; the file is as it was."""
    path = tmp_path / "rows.json"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json_file, "write_file", full)
    with pytest.raises(UserError, match=r"rows\.json cannot be written .*No space left"):
        json_file.write(path, "after")
    assert path.read_text() == "before"
