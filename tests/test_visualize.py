"""Colours and pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.visualize import ERROR_COLOR, colorize, error_map, index_png, overlay, save_png, side_by_side

PALETTE = [(255, 0, 0), (0, 255, 0), (7, 8, 9)]
MASK = np.array([[0, 1, 2], [2, 255, 0]], dtype=np.uint8)


def palette(num_classes: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(0, 256, (num_classes, 3)).tolist()


def test_colours_by_hand() -> None:
    """Oracle: the palette entry of each class; ignored pixels and classes beyond the palette are black."""
    red, green, gray, black = (255, 0, 0), (0, 255, 0), (7, 8, 9), (0, 0, 0)
    colors = colorize(MASK, PALETTE)
    assert colors.dtype == np.uint8
    assert np.array_equal(colors, [[red, green, gray], [gray, black, red]])
    assert (colorize(np.full((1, 1), 3, np.uint8), PALETTE) == 0).all()


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, (100, 200, 50)), (1.0, (255, 0, 0)), (0.5, (178, 100, 25))])
def test_overlay_mixes(opacity: float, expected: tuple[int, int, int]) -> None:
    """Oracle: (1 - opacity) image + opacity colour, by hand, rounded."""
    image = np.full((1, 1, 3), (100, 200, 50), dtype=np.uint8)
    assert overlay(image, np.zeros((1, 1), np.uint8), PALETTE, opacity)[0, 0].tolist() == list(expected)


def test_overlay_stays_between_image_and_colour() -> None:
    """Oracle: the smaller and the larger of both, so that nothing wraps around at 0 or 255."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), rng.integers(0, 3, (16, 16), dtype=np.uint8)
    image[:2], image[2:4] = 0, 255
    mixed, colors = overlay(image, mask, PALETTE), colorize(mask, PALETTE)
    assert mixed.dtype == np.uint8
    assert (mixed >= np.minimum(image, colors)).all()
    assert (mixed <= np.maximum(image, colors)).all()


def test_side_by_side() -> None:
    """Oracle: numpy slices of the row: images to the bit, white between them and not behind."""
    images = [np.full((2, width, 3), width, dtype=np.uint8) for width in (3, 5)]
    row = side_by_side(images, gap=2)
    assert row.shape == (2, 10, 3)
    assert [row[0, x, 0] for x in range(10)] == [3, 3, 3, 255, 255, 5, 5, 5, 5, 5]


@pytest.mark.parametrize("num_classes", [1, 2, 3, 11, 16, 19, 150])
@pytest.mark.parametrize("ignored", [False, True])
def test_index_png_is_read_back(num_classes: int, ignored: bool, tmp_path: Path) -> None:
    """Oracle: Pillow: the indices themselves, 255 among them, and the palette's colours when shown."""
    mask = np.random.default_rng(1).integers(0, num_classes, (7, 5), dtype=np.uint8)
    if ignored:
        mask[2, 3] = 255
    save_png(tmp_path / "mask.png", index_png(mask, palette(num_classes)))
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P"
        indices, shown = np.asarray(picture), np.asarray(picture.convert("RGB"))
    assert np.array_equal(indices, mask)
    valid = mask != 255
    assert np.array_equal(shown[valid], colorize(mask, palette(num_classes))[valid])


def test_index_png_of_a_view() -> None:
    """Oracle: the indices of a transposed array, which is not contiguous."""
    assert np.array_equal(np.asarray(index_png(MASK.T, PALETTE)), MASK.T)


@pytest.mark.parametrize("kind", ["array", "picture"])
def test_save_png_replaces_and_leaves_nothing_beside(kind: str, tmp_path: Path) -> None:
    """Oracle: the folder's only file and its pixels, read by Pillow."""
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (tmp_path / "a.png").write_bytes(b"an older file")
    save_png(tmp_path / "a.png", image if kind == "array" else Image.fromarray(image))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.asarray(picture), image)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """Oracle: the bytes before; nothing beside them."""
    (tmp_path / "a.png").write_bytes(b"an older file")
    with pytest.raises(OSError, match="cannot write mode"):
        save_png(tmp_path / "a.png", Image.new("HSV", (2, 2)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": b"an older file"}


def test_a_png_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Oracle: the bytes of the file that a stranger's links lead to."""
    (tmp_path / "precious").write_bytes(b"mine")
    try:
        for name in ("a.png", ".a.png.part"):
            (tmp_path / name).symlink_to(tmp_path / "precious")
    except OSError:
        pytest.skip("no links here")
    save_png(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert {path.name: path.is_symlink() for path in tmp_path.iterdir()} == {"precious": False, "a.png": False}


def test_a_png_names_its_software(tmp_path: Path) -> None:
    """Oracle: the text that Pillow reads; none where none is given."""
    save_png(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8), software="ccnet")
    save_png(tmp_path / "b.png", np.zeros((2, 2, 3), np.uint8))
    for name, expected in (("a", {"Software": "ccnet"}), ("b", {})):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.info == expected


def test_error_map_by_hand() -> None:
    """Oracle: wrong pixels in the colour of errors, ignored ones black whatever was predicted, right ones between a
    third of the way from white to the image's grey."""
    image = np.array([[(0, 0, 0), (255, 255, 255), (90, 90, 90), (10, 20, 30)]], np.uint8)
    mask, prediction = np.array([[0, 1, 2, 255]], np.uint8), np.array([[0, 1, 0, 0]], np.uint8)
    assert error_map(image, mask, prediction).tolist() == [[[170] * 3, [255] * 3, list(ERROR_COLOR), [0] * 3]]
