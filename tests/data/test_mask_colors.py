"""Masks that hold a colour per class."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ccnet.data.mask_colors import ColorMasks, color_codes, color_of
from ccnet.errors import ConfigError, DataError

COLORS = ((0, 0, 0), (128, 0, 0), (0, 128, 255))


def save(path: Path, colors: list[tuple[int, int, int]], mode: str = "RGB") -> Path:
    picture = Image.fromarray(np.array([colors], np.uint8))
    (picture.quantize(len(set(colors))) if mode == "P" else picture.convert(mode)).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_is_its_place(tmp_path: Path, mode: str) -> None:
    """Oracle: the colours that were written."""
    path = save(tmp_path / "mask.png", [COLORS[2], COLORS[0], (9, 9, 9), COLORS[1]], mode)
    labels = ColorMasks(COLORS, ignore_color=(9, 9, 9))(path)
    assert labels.tolist() == [[2, 0, 255, 1]]
    assert labels.dtype == np.uint8


def test_an_unknown_colour_is_named_with_its_file(tmp_path: Path) -> None:
    """Off by one in one channel, as JPEG or a resize leaves it. Oracle: the message, written out."""
    path = save(tmp_path / "mask.png", [COLORS[1], (0, 128, 254), (0, 128, 254), (1, 0, 0)])
    with pytest.raises(DataError, match=r"mask.png holds 2 colours .* such as \[0, 128, 254\], \[1, 0, 0\], in 3 pix"):
        ColorMasks(COLORS)(path)


def test_index_masks_are_told_apart(tmp_path: Path) -> None:
    """Oracle: the message, which names the way out."""
    Image.new("L", (2, 2)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"holds L values and no colours; set dataset\.mask_format=index"):
        ColorMasks(COLORS)(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("colors", "ignored", "message"),
    [
        (((1, 2, 3), (1, 2, 3)), None, r"\[1, 2, 3\] stands for two labels"),
        (((1, 2, 3),), (1, 2, 3), r"\[1, 2, 3\] stands for two labels"),
        (tuple((index, index, 0) for index in range(256)), None, "256 mask colours do not fit"),
    ],
)
def test_colours_must_differ(
    colors: tuple[tuple[int, int, int], ...], ignored: tuple[int, int, int] | None, message: str
) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(ConfigError, match=message):
        ColorMasks(colors, ignored)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_codes_bring_colours_back(color: tuple[int, int, int]) -> None:
    """Oracle: the colour."""
    assert color_of(int(color_codes(Image.new("RGB", (1, 1), color), Path("mask"))[0, 0])) == color
