"""Reading in threads: no bomb is decoded, and the process's warnings are what they were."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ccnet.data.quiet_reading import quiet_reading
from ccnet.data.sample import read_image
from ccnet.errors import DataError


def test_threads_that_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reader enters, the second enters, the first leaves, and the second opens a bomb of 1.5 times the limit,
    of which Pillow only warns. Oracle: the error; nothing is heard, and the filters are what they were."""
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    Image.new("RGB", (15, 10)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    real, second_is_in, first_is_out = Image.open, threading.Event(), threading.Event()

    def open_in_turn(file: Any, formats: Any) -> Any:
        if file.name.endswith("small.png"):
            assert second_is_in.wait(10)
        else:
            second_is_in.set()
            assert first_is_out.wait(10)
        return real(file, formats=formats)

    def first() -> None:
        read_image(tmp_path / "small.png")
        first_is_out.set()

    monkeypatch.setattr(Image, "open", open_in_turn)
    with warnings.catch_warnings(record=True) as heard, ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        done = pool.submit(first)
        with pytest.raises(DataError, match=r"bomb.png has 15x10 pixels; at most 100 in all are read"):
            pool.submit(read_image, tmp_path / "bomb.png").result()
        done.result()
        assert list(warnings.filters) == before
    assert heard == []


def test_no_limit_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the size; whoever lifts Pillow's limit means it."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("RGB", (15, 10)).save(tmp_path / "large.png")
    assert read_image(tmp_path / "large.png").shape == (10, 15, 3)


def test_the_last_reader_puts_the_filters_back() -> None:
    """Oracle: the filters; other people's warnings, which are errors in tests, are heard all the time."""
    before = list(warnings.filters)
    with quiet_reading:
        with quiet_reading:
            pass
        quiet = list(warnings.filters)
        with pytest.raises(UserWarning, match="not Pillow's"):
            warnings.warn("not Pillow's", stacklevel=1)
    assert quiet[1:] == before
    assert list(warnings.filters) == before
