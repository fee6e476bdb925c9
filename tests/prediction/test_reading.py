"""Threads that decode ahead: order, bounds, and one bad file among good ones."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.prediction import reading
from ccnet.prediction.inputs import Input
from ccnet.prediction.reading import Decoded, Unreadable, decoded, file_state


def inputs(folder: Path, count: int) -> list[Input]:
    for index in range(count):
        Image.fromarray(np.full((2, 3, 3), index, np.uint8)).save(folder / f"{index}.png")
    return [Input(f"{index}.png", folder / f"{index}.png") for index in range(count)]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (3, 2), (2, 50)])
def test_images_come_in_order(threads: int, ahead: int, tmp_path: Path) -> None:
    """Oracle: the values that were written, and the files' own states."""
    items = inputs(tmp_path, 9)
    found = list(decoded(items, threads, ahead))
    assert all(isinstance(each, Decoded) for each in found)
    assert [int(each.image[0, 0, 0]) for each in found if isinstance(each, Decoded)] == list(range(9))
    assert [each.state for each in found if isinstance(each, Decoded)] == [file_state(item) for item in items]


def test_whatever_a_decoder_raises_is_that_files_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the reason, and the others."""
    items = inputs(tmp_path, 3)
    items[0].path.write_text("no picture")
    real = reading.read_image

    def fails(path: Path) -> np.ndarray:
        if path.name == "1.png":
            raise MemoryError("too large")
        return real(path)

    monkeypatch.setattr(reading, "read_image", fails)
    strange = Input("nul", tmp_path / "a\0b.png")
    first, second, third, fourth = decoded([*items, strange], 2, 2)
    assert isinstance(first, Unreadable)
    assert "0.png is not an image" in first.reason
    assert isinstance(second, Unreadable)
    assert second.reason.endswith("1.png cannot be read (MemoryError: too large)")
    assert isinstance(third, Decoded)
    assert isinstance(fourth, Unreadable)
    assert file_state(strange) is None


def test_no_more_than_asked_for_are_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the count of files that were opened; none after the end, and no thread either."""
    opened: list[Path] = []
    monkeypatch.setattr(reading, "read_image", lambda path: opened.append(path) or np.zeros((1, 1, 3), np.uint8))
    stream = decoded(inputs(tmp_path, 30), threads=2, ahead=4)
    for _ in range(3):
        next(stream)
    stream.close()
    assert 3 <= len(opened) <= 3 + 4 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]
