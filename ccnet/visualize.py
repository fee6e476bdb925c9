"""Colours, overlays and figures from class indices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

IGNORE_COLOR = (0, 0, 0)
Rgb = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Palette = Sequence[Sequence[int]]


def colorize(mask: Mask, palette: Palette) -> Rgb:
    """Class indices (H, W) -> colours (H, W, 3); ignored pixels are black."""
    return _table(palette)[mask]


def overlay(image: Rgb, mask: Mask, palette: Palette, opacity: float = 0.6) -> Rgb:
    """The colours of the mask over the image."""
    blended = (1 - opacity) * image + opacity * colorize(mask, palette)
    return np.rint(blended).astype(np.uint8)


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


def save_png(path: Path, image: Rgb | Image.Image) -> None:
    """Writes a PNG aside and renames it: a file that is there is whole."""
    aside = path.with_name(f".{path.name}.part")
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(aside, format="PNG")
    aside.replace(path)


def confusion_figure(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Image.Image:
    """The confusion matrix, each row in per cent of the true class's pixels."""
    num_classes, cell, margin = len(class_names), 44, 150
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = margin + num_classes * cell
    figure = Image.new("RGB", (side + 10, side + 10), "white")
    draw, font = ImageDraw.Draw(figure), ImageFont.load_default(13)
    for row in range(num_classes):
        middle = margin + row * cell + cell // 2
        draw.text((margin - 8, middle), class_names[row], "black", font, anchor="rm")
        figure.paste(_vertical_text(class_names[row], font, margin), (middle - 10, 0))
        for column in range(num_classes):
            _draw_cell(draw, (margin + column * cell, margin + row * cell), cell, float(share[row, column]), font)
    draw.text((8, 8), "true class in rows,\npredicted in columns,\nper cent of the row", "gray", font)
    return figure


def _table(palette: Palette) -> Rgb:
    table = np.full((256, 3), IGNORE_COLOR, dtype=np.uint8)
    table[: len(palette)] = palette
    return table


def _vertical_text(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, length: int) -> Image.Image:
    label = Image.new("RGB", (length, 20), "white")
    ImageDraw.Draw(label).text((8, 10), text, "black", font, anchor="lm")
    return label.rotate(90, expand=True)


def _draw_cell(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    cell: int,
    share: float,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top = corner
    shade = int(255 * (1 - share))
    draw.rectangle((left, top, left + cell - 2, top + cell - 2), fill=(shade, shade, 255))
    if share >= 0.005:
        color = "white" if share > 0.5 else "black"
        draw.text((left + cell // 2, top + cell // 2), f"{100 * share:.0f}", color, font, anchor="mm")
