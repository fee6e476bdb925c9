"""TensorBoard's files on a disk that refuses them."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ccnet.errors import UserError
from ccnet.training import board
from ccnet.training.board import Board

CALLS: dict[str, Callable[[Board], None]] = {
    "scalars": lambda board: board.scalars(1, "train", {"loss": 1.0}),
    "picture": lambda board: board.picture(1, "val/a", np.zeros((2, 2, 3), dtype=np.uint8)),
    "text": lambda board: board.text("config", "a: 1"),
    "hparams": lambda board: board.hparams({"seed": 1}, ["val/mIoU"]),
    "flush": Board.flush,
    "close": Board.close,
}


def refuse(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_is_one_line(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message, which names the folder; the writer's thread hands its error on at the next call."""
    made = Board(tmp_path, 0)
    assert made.writer.file_writer is not None
    asynchronous = made.writer.file_writer.event_writer._async_writer
    with monkeypatch.context() as patch:
        for name in ("write", "flush", "close"):
            patch.setattr(asynchronous, name, refuse)
        with pytest.raises(UserError) as caught:
            CALLS[call](made)
    assert str(caught.value).startswith(f"{tmp_path} cannot be written (No space left on device); free some space")
    asynchronous.close()


def test_a_folder_that_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message, which names the folder."""
    monkeypatch.setattr(board, "SummaryWriter", lambda *_, **__: refuse())
    with pytest.raises(UserError, match="cannot be written"):
        Board(tmp_path, 0)
