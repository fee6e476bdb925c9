"""The confusion matrix as a picture: readable for two classes and for hundreds, and for names of any length."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CELL = (14, 64)  # sides of a cell in pixels, of many classes and of few
ROOM = 1000  # for all cells together, as far as that leaves them 14 pixels
NUMBERED = 28  # smallest cell that has room for a number
MARGIN = (130, 280)
RIGHT, WRONG = (10, 95, 180), (194, 65, 12)
STRONGEST = 0.6  # of the colour where all of a row is in one cell with a number: black stays readable on it
INK, PALE = "#15181c", "#545d68"
TOLD = "true class in rows,\npredicted in columns,\nper cent of the row"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def confusion_figure(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Image.Image:
    """Each row as shares of the true class's pixels: right ones blue, wrong ones orange, the stronger the more, by the
    square root of the share, so that rare mistakes are seen.

    Args:
        confusion: pixels (C, C).
        class_names: one per class.
    """
    num_classes = len(class_names)
    cell = min(max(ROOM // num_classes, CELL[0]), CELL[1])
    font = ImageFont.load_default(min(cell - 2, 14))
    margin = round(min(max(MARGIN[0], *(font.getlength(name) + 16 for name in class_names)), MARGIN[1]))
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = margin + num_classes * cell
    figure = Image.new("RGB", (side + 10, side + 10), "white")
    figure.paste(Image.fromarray(_cells(share, cell)), (margin, margin))
    draw = ImageDraw.Draw(figure)
    for index, name in enumerate(class_names):
        start = margin + index * cell
        figure.paste(_label(name, font, margin - 8, cell, "rm"), (0, start))
        figure.paste(_label(name, font, margin - 8, cell, "lm").rotate(90, expand=True), (start, 0))
    if cell >= NUMBERED:
        _draw_numbers(draw, share, cell, margin, font)
    draw.text((8, 8), TOLD, PALE, ImageFont.load_default(12))
    return figure


def _cells(share: NDArray[np.float64], cell: int) -> NDArray[np.uint8]:
    """Squares of colour with a white line between."""
    strong = np.where(np.eye(len(share), dtype=bool)[..., None], RIGHT, WRONG)
    weight = (STRONGEST if cell >= NUMBERED else 1.0) * np.sqrt(share)[..., None]
    colors = np.rint(255 * (1 - weight) + strong * weight).astype(np.uint8)
    pixels = colors.repeat(cell, axis=0).repeat(cell, axis=1)
    pixels[cell - 1 :: cell] = pixels[:, cell - 1 :: cell] = 225
    return pixels


def _label(name: str, font: Font, width: int, height: int, anchor: str) -> Image.Image:
    """A name at the left ("lm") or right ("rm") of its room, cut where it is longer."""
    shown = name
    while len(shown) > 1 and font.getlength(shown) > width:
        shown = f"{shown.rstrip('…')[:-1]}…"
    label = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(label).text((0 if anchor == "lm" else width - 1, height / 2), shown, INK, font, anchor)
    return label


def _draw_numbers(draw: ImageDraw.ImageDraw, share: NDArray[np.float64], cell: int, margin: int, font: Font) -> None:
    for row, column in np.argwhere(share >= 0.005).tolist():
        centre = (margin + (column + 0.5) * cell, margin + (row + 0.5) * cell)
        draw.text(centre, f"{100 * share[row, column]:.0f}", INK, font, anchor="mm")
