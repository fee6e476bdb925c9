"""Shapes of annotation files -> pixels."""

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ccnet.errors import DataError
from ccnet.preparation.shapes import checked_points, labelme_shape, polygon, run_lengths

SIZE = (6, 8)


def png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the text of its error."""
    try:
        return call()
    except DataError as error:
        return str(error)


def expected(rows: slice, columns: slice) -> np.ndarray:
    inside = np.zeros(SIZE, bool)
    inside[rows, columns] = True
    return inside


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ({"points": [[1, 2], [4, 2], [4, 4], [1, 4]]}, expected(slice(2, 5), slice(1, 5))),
        ({"shape_type": "polygon", "points": [[-3, -3], [9, -3], [9, 9], [-3, 9]]}, np.ones(SIZE, bool)),
        ({"shape_type": "rectangle", "points": [[4, 4], [1, 2]]}, expected(slice(2, 5), slice(1, 5))),
        *(
            (
                {
                    "shape_type": "mask",
                    "points": [[2, 1], [4, 2]],
                    "mask": png(np.array([[inside] * 3, [0, 0, 0]], "u1")),
                },
                expected(slice(1, 2), slice(2, 5)),
            )
            for inside in (1, 255)  # LabelMe writes 1
        ),
    ],
)
def test_shapes_of_labelme(shape: dict[str, Any], inside: np.ndarray) -> None:
    """Oracle: the pixels, written out; an outline belongs to its shape."""
    assert np.array_equal(labelme_shape(shape, SIZE, "here"), inside)


def test_a_circle_is_round() -> None:
    """Oracle: the distance from the centre, within a pixel of the rim."""
    inside = labelme_shape({"shape_type": "circle", "points": [[30, 20], [30, 32]]}, (40, 60), "here")
    distance = np.hypot(*np.mgrid[-20:20, -30:30])
    assert inside[distance < 11].all()
    assert not inside[distance > 13].any()


def test_polygons_fill_what_they_enclose() -> None:
    """Oracle: a point-in-polygon test by crossing numbers, away from the outline."""
    points = [(3.0, 2.0), (35.0, 9.0), (22.0, 20.0), (30.0, 33.0), (8.0, 28.0)]
    inside = polygon(points, (40, 40))
    y, x = np.mgrid[:40, :40].astype(float)
    crossings, nearest = np.zeros((40, 40), int), np.full((40, 40), np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossings += ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x0 + along * (x1 - x0) - x, y0 + along * (y1 - y0) - y))
    clear = nearest > 1
    assert np.array_equal(inside[clear], (crossings % 2 == 1)[clear])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"shape_type": "line", "points": [[0, 0], [1, 1]]}, "a line has no area"),
        ({"points": [[0, 0], [1, 1]]}, "a polygon of 2 points; it needs 3"),
        ({"shape_type": "circle", "points": [[0, 0]] * 3}, "a circle of 3 points; it needs 2"),
        ({"shape_type": ["polygon"], "points": []}, "'shape_type' must be a str"),
        ({"points": "0,0"}, "'points' must be a list, not 0,0"),
        ({"points": [[0, 0, 0]] * 3}, r"\[0, 0, 0\] is no point"),
        ({"points": [[0, "1"]] * 3}, "is no point"),
        ({"points": [[0, float("nan")]] * 3}, "the point 0, nan lies far outside the image of 8x6 pixels"),
        ({"points": [[0, 10**400]] * 3}, "lies far outside"),
        ({"points": [[17, 0]] * 3}, "the point 17, 0 lies far outside"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]]}, "'mask' must be a str"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "%%"}, "the mask cannot be decoded"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "aGVsbG8="}, "the mask cannot be decoded"),
        (
            {"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": png(np.zeros((7, 8), "u1"))},
            "a mask of 8x7 pixels does not fit",
        ),
        ("polygon", "must be an object"),
    ],
)
def test_a_shape_that_makes_no_sense_is_named(shape: Any, message: str) -> None:
    """Oracle: the message, written out, after file and shape."""
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        labelme_shape(shape, SIZE, "here")


# Oracle of the next test: what pycocotools 2.0.11 encoded.
ENCODED = [
    ("3170J3001MO0041", [[0, 0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 1], [1, 0, 1, 1, 0, 1, 0],
                         [0, 0, 1, 1, 1, 1, 0]]),
    ("b1", np.zeros((5, 10)).tolist()),
    ("0b1", np.ones((5, 10)).tolist()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "mask"), ENCODED)
def test_packed_runs(text: str, mask: list[list[int]]) -> None:
    """Oracle: pycocotools."""
    inside = run_lengths({"size": [len(mask), len(mask[0])], "counts": text}, (len(mask), len(mask[0])), "here")
    assert np.array_equal(inside, np.array(mask, bool))


@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans()))
def test_runs_bring_the_mask_back(mask: np.ndarray) -> None:
    """Oracle: the mask that was packed here, as the format is described."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    for counts in (runs, packed(runs)):
        assert np.array_equal(run_lengths({"size": list(mask.shape), "counts": counts}, mask.shape, "here"), mask)


def packed(runs: list[int]) -> str:
    text = ""
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 * more))
            if not more:
                break
    return text


@given(st.text(max_size=30) | st.lists(st.integers(-5, 60), max_size=6) | st.none() | st.integers())
def test_no_runs_whatever_break_out(counts: Any) -> None:
    """Oracle: a mask of the image's size, or the one error."""
    found = outcome(lambda: run_lengths({"size": list(SIZE), "counts": counts}, SIZE, "here"))
    assert found.startswith("here: ") if isinstance(found, str) else found.shape == SIZE


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [8, 6], "counts": [48]}, r"runs for a size of \[8, 6\], the image is \[6, 8\]"),
        ({"size": list(SIZE), "counts": [47]}, "the runs have 47 pixels, the image 48"),
        ({"size": list(SIZE), "counts": [50, -2]}, "must be the lengths of runs"),
        ({"size": list(SIZE), "counts": [10**30]}, "must be the lengths of runs"),
        ({"size": list(SIZE), "counts": "P"}, "ends in the middle of a number"),
        ({"size": list(SIZE), "counts": "o" * 50}, "is no run-length code"),
        ({"counts": [48]}, "'size' must be a list"),
    ],
)
def test_wrong_runs_are_named(rle: dict[str, Any], message: str) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(DataError, match=f"^here: .*{message}"):
        run_lengths(rle, SIZE, "here")


@given(st.recursive(st.none() | st.floats(allow_subnormal=False) | st.integers() | st.text(), st.lists, max_leaves=8))
def test_no_points_whatever_break_out(value: Any) -> None:
    """Oracle: points near the image, or the one error."""
    found = outcome(lambda: checked_points(value if isinstance(value, list) else [value], SIZE, "here"))
    assert (
        found.startswith("here: ") if isinstance(found, str) else all(-8 <= x <= 16 and -6 <= y <= 12 for x, y in found)
    )
