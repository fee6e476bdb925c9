"""The context probe, looked at from outside: cells are told apart by their mean colour."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ccnet.data.context_probe import ContextProbe

GRID, CELL = 8, 8


@pytest.fixture(scope="module")
def probe() -> ContextProbe:
    return ContextProbe("val", num_val=200)


def cells(probe: ContextProbe, index: int) -> NDArray[np.float64]:
    """The mean colour of each cell, (grid, grid, 3)."""
    image = probe[index]["image"].astype(float)
    return image.reshape(probe.grid, probe.cell, probe.grid, probe.cell, 3).mean(axis=(1, 3))


def kinds(colors: NDArray[np.float64]) -> list[list[str]]:
    """What each cell is, by its mean colour alone."""
    return [
        [
            "query" if max(color) - min(color) < 25 else "red" if max(color) == color[0] > 2 * color[1] else
            "blue" if max(color) == color[2] > 2 * color[0] else "other"
            for color in row
        ]
        for row in colors
    ]  # fmt: skip


def places(found: list[list[str]], *wanted: str) -> list[tuple[int, int]]:
    return [(row, column) for row, line in enumerate(found) for column, kind in enumerate(line) if kind in wanted]


def test_two_keys_of_one_colour_share_neither_row_nor_column(probe: ContextProbe) -> None:
    """Oracle: the coloured cells of the image itself."""
    for index in range(50):
        found = kinds(cells(probe, index))
        keys = places(found, "red", "blue")
        assert len(keys) == 2
        assert len({row for row, _ in keys}) == len({column for _, column in keys}) == 2
        assert len({found[row][column] for row, column in keys}) == 1


def test_grey_cells_are_labelled_with_the_colour_of_the_keys(probe: ContextProbe) -> None:
    """Oracle: a loop over the cells: the class on rows and columns 2..5 of grey cells, 255 on every other pixel."""
    for index in range(50):
        found, mask = kinds(cells(probe, index)), probe[index]["mask"]
        key_class = 0 if places(found, "red") else 1
        for row in range(GRID):
            for column in range(GRID):
                expected = np.full((CELL, CELL), 255)
                if found[row][column] == "query":
                    expected[2:6, 2:6] = key_class
                own = mask[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
                assert np.array_equal(own, expected)


def test_regions_cell_by_cell(probe: ContextProbe) -> None:
    """Oracle: a loop: on the cross where some key has the cell's row or column, 255 on the keys themselves."""
    assert probe.region_names == ["on-cross", "off-cross"]
    for index in range(50):
        keys = places(kinds(cells(probe, index)), "red", "blue")
        region = probe[index]["region"]
        for y in range(GRID * CELL):
            for x in range(0, GRID * CELL, 3):
                cell = (y // CELL, x // CELL)
                on_cross = any(cell[0] == row or cell[1] == column for row, column in keys)
                assert region[y, x] == (255 if cell in keys else 0 if on_cross else 1)


def test_three_in_ten_other_cells_are_queries(probe: ContextProbe) -> None:
    """Oracle: 30 % of the cells that are no keys, within four standard deviations of 100 pairs of twins."""
    share = np.mean([len(places(kinds(cells(probe, i)), "query")) for i in range(200)]) / (GRID**2 - 2)
    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 100 / (GRID**2 - 2)))


def test_nothing_but_the_keys_colour_tells_the_class(probe: ContextProbe) -> None:
    """Oracle: the twin, equal on every pixel outside the keys, of the other class; the next twins are others."""
    for index in range(0, 100, 2):
        red, blue, other = probe[index], probe[index + 1], probe[index + 2]
        keys = red["region"] == 255
        assert np.array_equal(red["image"][~keys], blue["image"][~keys])
        assert (red["image"][keys] != blue["image"][keys]).any()
        assert np.array_equal(red["region"], blue["region"])
        assert np.array_equal(np.where(red["mask"] == 0, 1, red["mask"]), blue["mask"])
        assert not np.array_equal(red["region"], other["region"])


def test_classes_are_equally_frequent(probe: ContextProbe) -> None:
    """Oracle: equal numbers of labelled pixels, on the keys' crosses and off them; chance is exactly one half."""
    for region in (0, 1):
        inside = [probe[index]["mask"][probe[index]["region"] == region] for index in range(len(probe))]
        counts = [sum(int((mask == key_class).sum()) for mask in inside) for key_class in (0, 1)]
        assert counts[0] == counts[1] > 0


def test_a_sample_is_a_function_of_seed_split_and_index() -> None:
    """Oracle: the same from another object; every other seed, split or index gives another image, twins or not."""
    first, again, other = ContextProbe("train"), ContextProbe("train", num_train=20), ContextProbe("train", seed=1)
    for key in ("image", "mask", "region"):
        assert np.array_equal(first[3][key], again[3][key])  # type: ignore[literal-required]
    sets = (first, other, ContextProbe("val"))
    images = {dataset[index]["image"].tobytes() for dataset in sets for index in range(50)}
    assert len(images) == 150


def test_what_a_data_set_has(probe: ContextProbe) -> None:
    """Oracle: the sample's contract; other sizes too."""
    sample = probe[7]
    assert (sample["image"].shape, sample["image"].dtype) == ((64, 64, 3), np.uint8)
    assert sample["mask"].shape == sample["region"].shape == (64, 64)
    assert sample["mask"].dtype == sample["region"].dtype == np.uint8
    assert (probe.num_classes, probe.class_names, len(probe.palette)) == (2, ["red", "blue"], 2)
    assert len({probe[index]["name"] for index in range(len(probe))}) == len(probe) == 200
    small = ContextProbe("train", num_train=6, grid=3, cell=4)
    assert (len(small), small[0]["image"].shape) == (6, (12, 12, 3))
    with pytest.raises(IndexError, match="has 6 images, there is no 6"):
        small[6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "splits train and val, not test"),
        ({"grid": 2}, "grid must be at least 3, .* got 2"),
        ({"cell": 6}, "cell must be a multiple of 4 pixels, got 6"),
        ({"cell": 0}, "cell must be a multiple of 4 pixels, got 0"),
        ({"num_val": 0}, "num_train and num_val must be even, and at least 2; got 9600 and 0"),
        ({"num_train": 7}, "num_train and num_val must be even, and at least 2; got 7 and 128"),
    ],
)
def test_bad_arguments(options: dict[str, int | str], message: str) -> None:
    """Oracle: the documented ValueError with what is allowed."""
    with pytest.raises(ValueError, match=message):
        ContextProbe(**{"split": "train", **options})  # type: ignore[arg-type]


def test_labels_are_the_mask() -> None:
    """Oracle: the sample."""
    probe = ContextProbe("val")
    assert np.array_equal(probe.labels(5), probe[5]["mask"])
