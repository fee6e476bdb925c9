"""Hundreds of bad files: each gives the right pixels or one line that names it."""

import io
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ccnet.data.sample import MASK_FORMATS, MASK_MODES, read_image, read_mask
from ccnet.errors import DataError
from tests.data.malformed import (
    LABELS,
    PHOTO,
    bombs,
    damaged,
    encoded,
    odd_images,
    special_files,
    strangers,
    truncated,
    turned_images,
)

READERS: list[Callable[[Path], NDArray[np.generic]]] = [read_image, read_mask]


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Oracle of every test here: nothing hangs. Opening a pipe would."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        pytest.fail("reading a file hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read(reader: Callable[[Path], NDArray[np.generic]], path: Path) -> NDArray[np.generic] | None:
    """Pixels, or None after an error that names the file in one line; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return reader(path)
        except DataError as error:
            message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


def decoded(whole: bytes, reader: Callable[[Path], NDArray[np.generic]]) -> NDArray[np.generic]:
    """What Pillow makes of an undamaged file in memory."""
    image = Image.open(io.BytesIO(whole))
    return np.asarray(image.convert("RGB") if reader is read_image else image)


def test_a_damaged_file_never_gives_other_pixels(tmp_path: Path) -> None:
    """Oracle: the pixels of the whole file, which losing only what stands after them leaves as they are."""
    files = [*truncated(PHOTO, 25), *truncated(LABELS, 25), *damaged(PHOTO, 40), *damaged(LABELS, 60)]
    refused = 0
    for index, (name, content, whole) in enumerate(files):
        path = tmp_path / f"{index}_{name}"
        path.write_bytes(content)
        for reader in READERS:
            pixels = read(reader, path)
            refused += pixels is None
            assert pixels is None or np.array_equal(pixels, decoded(whole, reader)), path.name
    assert len(files) >= 300
    assert refused >= 1.9 * len(files)


def test_bombs_and_strangers_are_refused(tmp_path: Path) -> None:
    """Oracle: nothing of them is an image; and the memory that reading them takes, which the largest bomb declares
    a thousand times larger."""
    files = [*bombs(), *strangers()]
    before = peak_memory()
    for name, content in files:
        (tmp_path / name).write_bytes(content)
        assert [read(reader, tmp_path / name) for reader in READERS] == [None, None], name
    assert len(files) >= 80
    assert peak_memory() - before < 400e6


def peak_memory() -> int:
    """Bytes; 0 where nobody counts them."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Oracle: the error, and the alarm: a reader waits for a pipe's writer."""
    paths = list(special_files(tmp_path))
    assert [read(reader, path) for path in paths for reader in READERS] == [None] * 2 * len(paths)
    assert len(paths) >= 2


def test_whole_files_of_every_mode_are_read_right_or_refused(tmp_path: Path) -> None:
    """Oracle: Pillow's own conversion to RGB and its stored indices; deeper pixels and colours in masks are refused."""
    read_as: dict[bool, int] = {True: 0, False: 0}
    for name, whole in odd_images():
        path = tmp_path / name
        path.write_bytes(whole)
        image = Image.open(io.BytesIO(whole))
        deep = image.mode.startswith(("I", "F"))  # 16 bits hold 0..255 here, which would be black
        indices = image.format in MASK_FORMATS and image.mode in MASK_MODES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = [None if deep else decoded(whole, read_image), decoded(whole, read_mask) if indices else None]
        for reader, pixels in zip(READERS, expected, strict=True):
            found = read(reader, path)
            assert (found is None) == (pixels is None), name
            assert pixels is None or np.array_equal(found, pixels), name
            read_as[found is not None] += 1
    assert read_as[True] >= 50
    assert read_as[False] >= 20


@pytest.mark.parametrize(("pixels", "reader"), [(PHOTO, read_image), (LABELS, read_mask)], ids=["image", "mask"])
def test_orientations_turn_images_and_masks_alike(
    pixels: NDArray[np.uint8], reader: Callable[[Path], NDArray[np.generic]], tmp_path: Path
) -> None:
    """Oracle: the eight turns by their definition. Pillow reads uncompressed TIFFs by name wrong in four of them."""
    files = list(turned_images(pixels))
    assert len(files) == 8 * (3 if pixels.ndim == 3 else 2)
    for name, whole, turned in files:
        (tmp_path / name).write_bytes(whole)
        found = read(reader, tmp_path / name)
        assert found is not None, name
        assert np.array_equal(found, turned), name


def test_a_damaged_orientation_turns_nothing(tmp_path: Path) -> None:
    """Oracle: the pixels as they are, or the error."""
    for content in (b"MM\0*", b"\xff" * 40, b"II*\0\xff\xff\xff\x7f"):
        path = tmp_path / "exif.png"
        path.write_bytes(encoded(LABELS, "png", exif=content))
        pixels = read(read_mask, path)
        assert pixels is None or np.array_equal(pixels, LABELS)
