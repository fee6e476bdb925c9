"""The confusion matrix as a heat map, as SVG."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ccnet.evaluation.page.axes import label

NUMBERED = 30  # of more classes only the pointer tells the numbers
LARGE, SMALL = (34, 60), 13  # sides of a cell in pixels
ROOM = 900  # for all of few classes
LEAST = (0.0005, 0.01)  # share of a row from which a cell is drawn: with numbers, and of many classes
STRONGEST = 0.5  # opacity of a whole row in one cell with a number: ink stays readable on it
NAME = 24  # letters of a name along the edge
LETTER = 6.6  # width of one in pixels, on average


def heat_map(confusion: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """True classes in rows, predicted ones in columns, shares of the row.

    Args:
        confusion: pixels (C, C).
        class_names: one per class.
    """
    num_classes = len(class_names)
    cell = min(max(ROOM // num_classes, LARGE[0]), LARGE[1]) if num_classes <= NUMBERED else SMALL
    margin = round(min(max(map(len, class_names)), NAME) * LETTER) + 16
    side = num_classes * cell
    whole = margin + side + 2
    names = "\n".join(_names(class_names, cell, margin))
    cells = "\n".join(_cells(confusion, class_names, cell, margin))
    return (
        f'<svg class="matrix" width="{whole}" height="{whole}" viewBox="0 0 {whole} {whole}" role="img" '
        f'aria-label="confusion matrix of {num_classes} classes">\n'
        f'<rect class="ground" x="{margin}" y="{margin}" width="{side}" height="{side}"/>\n{names}\n{cells}\n</svg>'
    )


def _names(class_names: Sequence[str], cell: int, margin: int) -> Iterator[str]:
    style = "name small" if cell == SMALL else "name"
    for index, name in enumerate(class_names):
        middle, edge = margin + (index + 0.5) * cell + 4, margin - 8
        whole = f"<title>{label(name, 400)}</title>{label(name, NAME)}</text>"
        yield f'<text class="{style}" x="{edge}" y="{middle:g}" text-anchor="end">{whole}'
        yield f'<text class="{style}" transform="translate({middle:g} {edge}) rotate(-90)">{whole}'


def _cells(confusion: NDArray[np.int64], class_names: Sequence[str], cell: int, margin: int) -> Iterator[str]:
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    names, strongest = [label(name, NAME) for name in class_names], 1.0 if cell == SMALL else STRONGEST
    for row, column in np.argwhere(shares >= LEAST[cell == SMALL]).tolist():
        share, count = float(shares[row, column]), int(confusion[row, column])
        x, y = margin + column * cell, margin + row * cell
        kind = "right" if row == column else "wrong"
        told = f"{names[row]} taken for {names[column]}" if row != column else f"{names[row]} found"
        shape = (
            f'<g><title>{told}: {100 * share:.1f} %, {count:,} pixels</title><rect class="{kind}" x="{x}" y="{y}" '
            f'width="{cell - 1}" height="{cell - 1}" fill-opacity="{strongest * share**0.5:.3f}"/>'
        )
        if cell > SMALL and share >= 0.005:
            middle = f'x="{x + cell / 2 - 0.5:g}" y="{y + cell / 2 + 4:g}"'
            shape += f'<text class="count" {middle}>{100 * share:.0f}</text>'
        yield shape + "</g>"
