"""Colours, overlays and palette PNGs from class indices."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

IGNORE_INDEX = 255
IGNORE_COLOR = (0, 0, 0)
ERROR_COLOR = (213, 0, 85)
Rgb = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Palette = Sequence[Sequence[int]]


def colorize(mask: Mask, palette: Palette) -> Rgb:
    """Class indices (H, W) -> colours (H, W, 3); ignored pixels are black."""
    return _table(palette)[mask]


def overlay(image: Rgb, mask: Mask, palette: Palette, opacity: float = 0.6) -> Rgb:
    """The colours of the mask over the image."""
    mixed = cv2.addWeighted(image, 1 - opacity, colorize(mask, palette), opacity, 0)
    return mixed.astype(np.uint8, copy=False)


def side_by_side(images: Sequence[Rgb], gap: int = 4) -> Rgb:
    """Images of equal height in a row, on white."""
    height = images[0].shape[0]
    white = np.full((height, gap, 3), 255, dtype=np.uint8)
    return np.concatenate([part for image in images for part in (image, white)][:-1], axis=1)


def index_png(mask: Mask, palette: Palette) -> Image.Image:
    """A palette PNG: viewers show colours, programs read class indices."""
    picture = Image.frombytes("P", (mask.shape[1], mask.shape[0]), mask.tobytes())
    # All 256 colours: with up to 16, Pillow writes four bits a pixel or fewer, and 255 becomes a class.
    picture.putpalette(_table(palette).tobytes())
    return picture


def save_png(path: Path, image: Rgb | Image.Image, software: str | None = None) -> None:
    """Writes a PNG aside and renames it: a file that is there is whole. It may name the software that made it."""
    aside, about = path.with_name(f".{path.name}.part"), PngInfo()
    if software is not None:
        about.add_text("Software", software)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    aside.unlink(missing_ok=True)  # a stranger's link there would lead elsewhere
    picture.save(aside, format="PNG", pnginfo=about)
    aside.replace(path)


def error_map(image: Rgb, mask: Mask, prediction: Mask) -> Rgb:
    """Where a prediction is wrong: strong colour; right pixels are the pale grey image, ignored ones black."""
    gray = np.asarray(Image.fromarray(image).convert("L"))
    pale = (255 - (255 - gray.astype(np.uint16)) // 3).astype(np.uint8)
    errors = np.repeat(pale[..., None], 3, axis=2)
    errors[mask != prediction] = ERROR_COLOR
    errors[mask == IGNORE_INDEX] = IGNORE_COLOR
    return errors


def _table(palette: Palette) -> Rgb:
    table = np.full((256, 3), IGNORE_COLOR, dtype=np.uint8)
    table[: len(palette)] = palette
    return table
