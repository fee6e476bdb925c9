"""The confusion matrix as a picture, looked at pixel by pixel."""

import numpy as np
import pytest

from ccnet.evaluation.confusion_figure import CELL, MARGIN, RIGHT, STRONGEST, WRONG, confusion_figure


def test_cells_show_the_shares() -> None:
    """Oracle: the colours mixed with white by hand, the weight being the root of the share; an empty row is white."""
    confusion = np.array([[75, 25, 0], [0, 100, 0], [0, 0, 0]])
    pixels = np.asarray(confusion_figure(confusion, ["road", "car", "sky"]))
    margin, cell = MARGIN[0], CELL[1]
    seen = [[pixels[margin + cell * row + 3, margin + cell * column + 3] for column in range(3)] for row in range(3)]
    share = np.array([[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])[..., None]
    color = np.where(np.eye(3, dtype=bool)[..., None], RIGHT, WRONG)
    weight = STRONGEST * np.sqrt(share)
    assert np.abs(np.array(seen) - (255 * (1 - weight) + color * weight)).max() <= 0.5


def is_inked(pixels: np.ndarray) -> bool:
    return bool((pixels.max(axis=-1) < 100).any())


@pytest.mark.parametrize("num_classes", [1, 2, 19, 150, 255])
def test_any_number_of_classes_has_room(num_classes: int) -> None:
    """Oracle: between 190 and 4000 pixels a side; every name is written left of its row and above its column."""
    figure = np.asarray(confusion_figure(np.eye(num_classes, dtype=np.int64), ["Wagen"] * num_classes))
    side = figure.shape[0]
    assert figure.shape == (side, side, 3)
    assert 190 <= side <= 4000
    cell = (side - 10 - MARGIN[0]) // num_classes
    assert cell == min(max(1000 // num_classes, CELL[0]), CELL[1])
    for index in range(num_classes):
        start = MARGIN[0] + index * cell
        assert is_inked(figure[start : start + cell, : MARGIN[0] - 8])
        assert is_inked(figure[: MARGIN[0] - 8, start : start + cell])
        assert not is_inked(figure[start : start + cell, MARGIN[0] - 7 : MARGIN[0]])


def test_names_begin_at_the_matrix() -> None:
    """Oracle: a short name's ink lies next to the cells: right in its row, low in its column."""
    figure = np.asarray(confusion_figure(np.eye(3, dtype=np.int64), ["a", "b", "c"]))
    margin, start = MARGIN[0], MARGIN[0] + CELL[1]
    row, column = figure[start : start + CELL[1], : margin - 8], figure[: margin - 8, start : start + CELL[1]]
    assert is_inked(row[:, -20:])
    assert not is_inked(row[:, :-20])
    assert is_inked(column[-20:])
    assert not is_inked(column[:-20])


def test_numbers_where_there_is_room() -> None:
    """Oracle: ink in the cells from half a per cent on, and none in any of 40 classes."""
    confusion = np.array([[994, 6, 0], [4, 996, 0], [0, 0, 0]])
    figure = np.asarray(confusion_figure(confusion, ["a", "b", "c"]))
    margin, cell = MARGIN[0], CELL[1]
    inked = [[is_inked(figure[margin + cell * y :, margin + cell * x :][: cell - 1, : cell - 1]) for x in (0, 1, 2)]
             for y in (0, 1, 2)]  # fmt: skip
    assert inked == [[True, True, False], [False, True, False], [False, False, False]]
    many = np.asarray(confusion_figure(np.eye(40, dtype=np.int64), ["a"] * 40))
    assert not is_inked(many[margin:, margin:])


def test_long_names_are_cut_and_take_a_bounded_margin() -> None:
    """Oracle: the margin's bound; the cells begin where it ends."""
    figure = confusion_figure(np.eye(2, dtype=np.int64), ["straße " * 30, "日本語" * 40])
    assert figure.size == (MARGIN[1] + 2 * CELL[1] + 10,) * 2
    blue = np.rint(255 * (1 - STRONGEST) + np.array(RIGHT) * STRONGEST)
    assert np.abs(np.asarray(figure)[MARGIN[1] + 3, MARGIN[1] + 3] - blue).max() <= 1
