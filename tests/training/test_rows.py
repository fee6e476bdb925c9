"""Rows after crashes."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from ccnet.errors import UserError
from ccnet.training.rows import RowFile

ROWS = [(1, {"loss": 1.5}), (2, {"loss": 0.5}), (2, {"mIoU": 0.25}), (3, {"loss": 0.125})]


@pytest.fixture
def file(tmp_path: Path) -> RowFile:
    made = RowFile(tmp_path / "metrics.jsonl")
    for step, row in ROWS:
        made.append(step, row)
    return made


def lines(file: RowFile) -> list[dict[str, float]]:
    return [json.loads(line) for line in file.path.read_text(encoding="utf-8").splitlines()]


EXPECTED = [{"step": step, **row} for step, row in ROWS]


@pytest.mark.parametrize("step", range(5))
def test_rows_beyond_a_step_go(file: RowFile, step: int) -> None:
    """Oracle: a filter of the rows; those of the step itself are returned."""
    assert file.begin_after(step) == [row for row in EXPECTED if row["step"] == step]
    assert lines(file) == [row for row in EXPECTED if row["step"] <= step]


def test_a_row_cut_short_at_any_byte_goes(file: RowFile) -> None:
    """Oracle: the whole rows before it; a row without its line break is not whole, the next would join it."""
    whole = file.path.read_bytes()
    for length in range(len(whole) + 1):
        file.path.write_bytes(whole[:length])
        file.begin_after(3)
        kept = whole[:length].count(b"\n")
        assert lines(file) == EXPECTED[:kept]
        file.append(4, {"loss": 2.0})
        assert lines(file) == [*EXPECTED[:kept], {"step": 4, "loss": 2.0}]


@pytest.mark.parametrize(
    "rest", [b"\0" * 40, b"\xff\xfe\n", b"3\n", b"[1]\n", b'{"step": "3"}\n', b'{"loss": 1}\n', b"\n"]
)
def test_what_is_no_row_goes(file: RowFile, rest: bytes) -> None:
    """Oracle: the rows before it; zeros are what some file systems leave after a power cut."""
    with file.path.open("ab") as stream:
        stream.write(rest)
    file.begin_after(3)
    assert lines(file) == EXPECTED


def test_a_new_run_has_no_file_yet(tmp_path: Path) -> None:
    """Oracle: no rows, and no file."""
    assert RowFile(tmp_path / "metrics.jsonl").begin_after(0) == []
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_does_not_know_are_left_out(file: RowFile) -> None:
    """Oracle: a reader that refuses them; float64 survives exactly, and so do texts, lists and whole numbers."""
    file.append(4, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.1 + 0.2, "e": "nan", "f": ["x"], "g": 10**400})
    last = json.loads(file.path.read_text().splitlines()[-1], parse_constant=pytest.fail)
    assert last == {"step": 4, "d": 0.1 + 0.2, "e": "nan", "f": ["x"], "g": 10**400}


def test_a_full_disk_is_one_line(file: RowFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message, which names the file, the system's reason and what to do; the rows before are whole."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = RowFile(Path("/dev/full")) if Path("/dev/full").exists() else file
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        if full is file:
            patch.setattr(Path, "open", refuse)
        for act, row_file in ((lambda: full.append(4, {"loss": 1.0}), full), (file.flush, file)):
            with pytest.raises(UserError) as caught:
                act()
            message = str(caught.value)
            assert message.startswith(f"{row_file.path} cannot be written (No space left on device); free some space")
            assert "run the same command again" in message
            assert "\n" not in message
    assert lines(file) == EXPECTED


def test_flush_waits_for_the_disk(file: RowFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a recorded fsync of this very file."""
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    file.flush()
    assert flushed == [file.path.stat().st_ino]
    assert lines(file) == EXPECTED
