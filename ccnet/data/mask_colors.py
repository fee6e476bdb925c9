"""Masks that hold a colour per class instead of an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccnet.data.sample import COLORED_MODES, IGNORE_INDEX, Color, open_mask
from ccnet.errors import ConfigError, DataError

UNKNOWN = 256  # beside the labels 0..255


@dataclass(frozen=True)
class ColorMasks:
    """Reads colour masks: the label of a pixel is the place of its exact colour in `colors`.

    Args:
        colors: of the labels 0, 1, 2, ...; no two are equal.
        ignore_color: becomes 255; None where every pixel has a class.

    Raises:
        ConfigError: two equal colours, or more than 255.
    """

    colors: tuple[tuple[int, int, int], ...]
    ignore_color: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if len(self.colors) > IGNORE_INDEX:
            raise ConfigError(f"{len(self.colors)} mask colours do not fit beside the ignored label {IGNORE_INDEX}")
        seen: set[tuple[int, int, int]] = set()
        for color in (*self.colors, *([self.ignore_color] if self.ignore_color else [])):
            if color in seen:
                raise ConfigError(f"the colour {list(color)} stands for two labels of the masks; give each its own")
            seen.add(color)

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """A mask file -> uint8 (H, W), the place of each pixel's colour, or 255.

        Raises:
            DataError: a damaged file, a mask without colours, or a colour that stands for no label.
        """
        codes = color_codes(open_mask(path), path)
        labels = _label_by_code(self.colors, self.ignore_color).take(codes)
        unknown = codes[labels == UNKNOWN]
        if len(unknown):
            found = np.unique(unknown)
            listed = ", ".join(str(list(color_of(int(code)))) for code in found[:5])
            raise DataError(
                f"mask {path} holds {len(found)} colours that stand for no class, such as {listed}, in {len(unknown)} "
                "pixels; add them to the palette or as ignore_color, or mend the mask"
            )
        return labels.astype(np.uint8)


def color_codes(image: Image.Image, path: Path) -> NDArray[np.int32]:
    """An open colour mask -> (H, W), one number per colour: see `color_of`. The path is for messages.

    Raises:
        DataError: a mask without colours.
    """
    if image.mode not in (*COLORED_MODES, "P"):
        raise DataError(f"mask {path} holds {image.mode} values and no colours; set dataset.mask_format=index")
    pixels = np.asarray(image.convert("RGB"))
    codes = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):  # in place: temporary arrays would take twice as long
        codes <<= 8
        codes |= pixels[..., channel]
    return codes


def color_of(code: int) -> tuple[int, int, int]:
    """The RGB colour of a number that `color_codes` gives."""
    return code >> 16, code >> 8 & 255, code & 255


@lru_cache(maxsize=2)
def _label_by_code(colors: Sequence[Color], ignore_color: Color | None) -> NDArray[np.uint16]:
    """All 2^24 colours, 32 MB; a sorted search of two million pixels would take as long as decoding them."""
    table = np.full(1 << 24, UNKNOWN, dtype=np.uint16)
    for label, color in [*enumerate(colors), *([(IGNORE_INDEX, ignore_color)] if ignore_color else [])]:
        red, green, blue = color
        table[red << 16 | green << 8 | blue] = label
    return table
