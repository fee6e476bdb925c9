"""Bars, histogram, curves and matrix: every coordinate worked out again from its number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.evaluation.metrics_json import metrics_dict
from ccnet.evaluation.page import bars, curves, matrix
from ccnet.evaluation.page.axes import Axis
from ccnet.evaluation.page.bars import class_bars, histogram
from ccnet.evaluation.page.curves import draw_curves
from ccnet.evaluation.page.matrix import heat_map
from ccnet.evaluation.page.run_log import Series
from tests.evaluation.page.cases import Page, make_outcome


def test_bars_by_hand() -> None:
    """Oracle: widths and ends in per cent, as they were given; a class without score has no bar, one without interval
    no whisker."""
    blank = {"IoU": None, "IoU_interval": None}
    classes = {"a": {"IoU": 0.625, "IoU_interval": [0.5, 0.75]}, "b": blank, "c": {"IoU": 1.0, "IoU_interval": None}}
    page = Page(class_bars(classes, ["rgb(1, 2, 3)"] * 3))
    assert [shape["width"] for shape in page.attributes("rect", "bar")] == ["62.50%", "100.00%"]
    across, *ends = page.attributes("line", "whisker")
    assert (across["x1"], across["x2"]) == ("50.00%", "75.00%")
    assert [(end["x1"], end["x2"]) for end in ends] == [("50.00%", "50.00%"), ("75.00%", "75.00%")]
    assert page.words("title") == ["a: 62.5, 95 % interval 50.0 \u2013 75.0", "b: no score", "c: 100.0"]
    assert page.words("td")[-2:] == ["100.0", "\u2013"]


def test_bars_keep_the_order_of_the_classes() -> None:
    """Oracle: the names as the data set has them."""
    outcome = make_outcome(["z", "a", "m"])
    assert Page(class_bars(metrics_dict(outcome)["classes"], ["red"] * 3)).words("bdi") == ["z", "a", "m"]


def test_histogram_by_hand() -> None:
    """Oracle: heights in proportion to the counts, bins of 5 % from left to right, 1.0 in the last; the median."""
    page = Page(histogram([0.0, 0.26, 0.27, 0.28, 0.97, 1.0]))
    shapes = page.attributes("rect", "bar")
    assert len(shapes) == 20
    heights = {index: float(shape["height"]) for index, shape in enumerate(shapes) if float(shape["height"])}
    room = bars.BOTTOM - bars.TOP
    assert heights == pytest.approx({0: room / 3, 5: room, 19: 2 * room / 3}, abs=0.06)
    pitch = (bars.RIGHT - bars.LEFT) / 20
    assert [float(shape["x"]) for shape in shapes] == pytest.approx(
        [bars.LEFT + 1 + pitch * i for i in range(20)], abs=0.06
    )
    assert all(float(shape["y"]) + float(shape["height"]) == pytest.approx(bars.BOTTOM, abs=0.11) for shape in shapes)
    [median] = page.attributes("line", "whisker")
    assert float(median["x1"]) == pytest.approx(bars.LEFT + 20 * pitch * 0.275, abs=0.06)
    assert "median 27.5" in page.words("text")
    assert "25 to 30 %: 3 images" in page.words("title")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 6000, [0, 2000, 4000, 6000]), (0, 0.0042, [0, 0.001, 0.002, 0.003, 0.004]),
     (-3, 7, [-2, 0, 2, 4, 6]), (0, 1e-13, [0, 2e-14, 4e-14, 6e-14, 8e-14, 1e-13])],
)  # fmt: skip
def test_ticks_by_hand(low: float, high: float, ticks: list[float]) -> None:
    """Oracle: the round numbers that a person would take."""
    assert Axis(low, high, 0, 100).ticks() == pytest.approx(ticks, abs=0)


@given(high=st.floats(0, 1e12, exclude_min=True))
def test_ticks_of_any_values(high: float) -> None:
    """Oracle: 1 to 6 of them in rising order within the axis, from 0; of a number that is not tiny, 3 or more."""
    ticks = Axis(0, high, 0, 100).ticks()
    assert ticks[0] == 0.0
    assert ticks == sorted(set(ticks))
    assert (3 if high > 1e-300 else 1) <= len(ticks) <= 6
    assert ticks[-1] <= high * (1 + 1e-6)


SERIES = {
    "loss": Series([10, 20, 40], [4.0, 2.0, 1.0]),
    "ohem": Series([10, 20, 40], [3.0, 1.5, 0.5]),
    "auxiliary": Series([10, 20, 40], [1.0, 0.5, 0.5]),
    "val/loss": Series([40], [2.0]),
    "mIoU": Series([20, 40], [0.25, 0.5]),
    "lr": Series([10, 20, 40], [0.01, 0.02, 0.0]),
}


def test_curves_by_hand() -> None:
    """Oracle: steps from 0 to 40 and values from 0 to the largest, placed by hand; the evaluated step; the legend."""
    page = Page(draw_curves(SERIES, marked=20))
    lines = page.attributes("polyline", "curve")
    points = [[tuple(map(float, point.split(","))) for point in line["points"].split()] for line in lines]
    wide, high = curves.RIGHT - curves.LEFT, curves.BOTTOM - curves.TOP

    def placed(series: Series, largest: float) -> list[tuple[float, float]]:
        steps = zip(series.steps, series.values, strict=True)
        return [(curves.LEFT + wide * step / 40, curves.BOTTOM - high * value / largest) for step, value in steps]

    names = ["loss", "ohem", "auxiliary", "val/loss", "mIoU", "lr"]
    for name, largest, drawn in zip(names, [4, 4, 4, 4, 0.5, 0.02], points, strict=True):
        expected = placed(SERIES[name], largest)
        assert np.allclose(drawn, expected, atol=0.06), name
    assert page.words("bdi") == names
    assert page.words("h3") == ["Loss ", "Validation mIoU ", "Learning rate "]
    assert [float(mark["x1"]) for mark in page.attributes("line", "mark")] == [curves.LEFT + wide / 2] * 3
    assert len({line["class"] for line in lines[:4]}) == 4


def test_the_pointer_is_told_the_nearest_values() -> None:
    """Oracle: the titles, written out; strips that touch from the left edge to the right."""
    page = Page(draw_curves(SERIES, marked=None))
    assert page.words("title")[:3] == [
        "step 10: loss 4, ohem 3, auxiliary 1, val/loss 2",
        "step 20: loss 2, ohem 1.5, auxiliary 0.5, val/loss 2",
        "step 40: loss 1, ohem 0.5, auxiliary 0.5, val/loss 2",
    ]
    assert "step 40: mIoU 50.0" in page.words("title")
    strips = [(float(strip["x"]), float(strip["width"])) for strip in page.attributes("rect", "hit")[:3]]
    assert strips[0][0] == curves.LEFT
    for (left, width), following in zip(strips, [left for left, _ in strips[1:]] + [curves.RIGHT], strict=True):
        assert left + width == pytest.approx(following, abs=0.11)
    assert not page.attributes("line", "mark")


@pytest.mark.parametrize("values", [[0.0], [-2.0, 1.0], [5.0] * 2, [1e-9, 0.0], [1e11, 1.0], [1e-323]])
def test_curves_of_odd_values_stay_inside(values: list[float]) -> None:
    """Oracle: the box of the chart."""
    page = Page(draw_curves({"loss": Series(list(range(len(values))), values)}, marked=99))
    [line] = page.attributes("polyline", "curve")
    for point in line["points"].split():
        x, y = map(float, point.split(","))
        assert curves.LEFT <= x <= curves.RIGHT
        assert curves.TOP <= y <= curves.BOTTOM


def test_matrix_by_hand() -> None:
    """Oracle: cells at their row and column, as strong as the root of the share of the row; numbers and titles."""
    confusion = np.array([[75, 25, 0], [0, 0, 0], [1, 1, 9998]])
    page = Page(heat_map(confusion, ["a", "b", "c"]))
    right, wrong = page.attributes("rect", "right"), page.attributes("rect", "wrong")
    margin, cell = float(page.attributes("rect", "ground")[0]["x"]), matrix.LARGE[1]
    corners = [(float(shape["x"]) - margin, float(shape["y"]) - margin) for shape in (*right, *wrong)]
    assert corners == [(0, 0), (2 * cell, 2 * cell), (cell, 0)]  # what is less than half a thousandth is not drawn
    strengths = [float(shape["fill-opacity"]) for shape in (*right, *wrong)]
    assert strengths == pytest.approx([matrix.STRONGEST * share**0.5 for share in (0.75, 0.9998, 0.25)], abs=6e-4)
    counts = [words for tag, words in page.texts if tag == "text" and words.isdigit()]
    assert counts == ["75", "25", "100"]
    assert "a taken for b: 25.0 %, 25 pixels" in page.words("title")
    assert "c found: 100.0 %, 9,998 pixels" in page.words("title")


def test_a_matrix_of_many_classes_stays_small() -> None:
    """Oracle: 4.5 MB where all of 150 classes with long names are mistaken for all; no numbers, but titles."""
    drawn = heat_map(np.full((150, 150), 1000) + np.eye(150, dtype=np.int64), ["n" * 200] * 150)
    page = Page(drawn)
    assert len(drawn) < 4_500_000
    assert not [words for tag, words in page.texts if tag == "text" and words.isdigit()]
    assert len(page.attributes("rect", "wrong")) in (0, 150 * 149)
