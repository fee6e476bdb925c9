"""The figure of the context probe: accuracy over steps for each R, and a sample. Lengths are pixels of the result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from math import hypot

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ccnet.evaluation.outcome import Picture
from ccnet.visualize import Rgb

SUPERSAMPLE = 3
SIZE = (1200, 500)
PLOT = (66, 64, 704, 428)  # left, top, right, bottom of the axes
SAMPLE = (776, 64, 364)  # left, top, side
COLORS = ("#8a8a8a", "#e08214", "#1b7837", "#2166ac", "#762a83", "#b2182b")  # by R, in a circle
INK, PALE, GRID = "#222222", "#666666", "#e3e3e3"
CLASS_NAMES = ("red", "blue")
KEY = 255  # the region of the keys
ON_CROSS = 0

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Accuracy of a run on the query cells on and off the keys' crosses, at the steps of its evaluations."""

    steps: Sequence[int]
    on_cross: Sequence[float]
    off_cross: Sequence[float]


class Pen:
    """Draws on a larger picture, which becomes smooth when it is scaled down."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.picture = Image.new("RGB", (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE), "white")
        self.draw = ImageDraw.Draw(self.picture)

    def line(self, points: Sequence[Point], color: str, width: float = 1.5) -> None:
        """A solid polyline with round joints."""
        self.draw.line(_scaled(points), color, round(width * SUPERSAMPLE), joint="curve")

    def dashes(self, points: Sequence[Point], color: str, width: float = 1.5, dash: float = 6, gap: float = 4) -> None:
        """A dashed polyline."""
        for piece in _pieces(points, dash, gap):
            self.line(piece, color, width)

    def disc(self, centre: Point, radius: float, fill: str, edge: str, width: float = 1.5) -> None:
        """A filled circle with an edge."""
        x, y = centre
        box = _scaled([(x - radius, y - radius), (x + radius, y + radius)])
        self.draw.ellipse(box, fill, edge, round(width * SUPERSAMPLE))

    def frame(self, corner: Point, side: float, color: str, width: float = 2) -> None:
        """A square's outline, inside it."""
        x, y = corner
        self.draw.rectangle(_scaled([(x, y), (x + side, y + side)]), None, color, round(width * SUPERSAMPLE))

    def text(self, position: Point, text: str, color: str = INK, size: float = 14, anchor: str = "mm") -> None:
        """One line; the anchor is Pillow's."""
        font = ImageFont.load_default(size * SUPERSAMPLE)
        self.draw.text(_scaled([position])[0], text, color, font, anchor)

    def vertical_text(self, centre: Point, text: str, size: float = 14) -> None:
        """One line, read from below."""
        font = ImageFont.load_default(size * SUPERSAMPLE)
        left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
        label = Image.new("RGB", (right - left + 4, bottom - top + 4), "white")
        ImageDraw.Draw(label).text((2 - left, 2 - top), text, INK, font)
        label = label.rotate(90, expand=True)
        x, y = (round(length * SUPERSAMPLE) for length in centre)
        self.picture.paste(label, (x - label.width // 2, y - label.height // 2))

    def image(self, corner: Point, pixels: Rgb, side: int) -> None:
        """A square image with hard pixels."""
        large = Image.fromarray(pixels).resize((side * SUPERSAMPLE,) * 2, Image.Resampling.NEAREST)
        left, top = (round(length * SUPERSAMPLE) for length in corner)
        self.picture.paste(large, (left, top))

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        return self.picture.reduce(SUPERSAMPLE)


def draw_figure(curves: Mapping[int, Curve], sample: Picture, cell: int) -> Image.Image:
    """Accuracy over steps beside a sample.

    Args:
        curves: by R.
        sample: with its region; image and mask are square.
        cell: side of its cells in pixels.
    """
    pen = Pen(SIZE)
    _draw_plot(pen, {recurrence: curve for recurrence, curve in curves.items() if curve.steps})
    _draw_sample(pen, sample, cell)
    return pen.finished()


def _draw_plot(pen: Pen, curves: Mapping[int, Curve]) -> None:
    left, top, right, bottom = PLOT
    last = max((step for curve in curves.values() for step in curve.steps), default=1)
    values = [value for curve in curves.values() for value in (*curve.on_cross, *curve.off_cross)]
    lowest = min(0.4, np.floor(10 * min(values, default=1)) / 10)

    def place(step: float, accuracy: float) -> Point:
        return left + (right - left) * step / last, bottom - (bottom - top) * (accuracy - lowest) / (1.03 - lowest)

    _draw_axes(pen, place, last, lowest)
    pen.line([place(0, 0.5), place(last, 0.5)], INK, 1)
    pen.text((right + 12, place(0, 0.5)[1]), "chance", PALE, 13, "lm")
    for above, (recurrence, curve) in zip(reversed(range(len(curves))), curves.items(), strict=True):
        color, width = COLORS[recurrence % len(COLORS)], 2.5 + 2 * above  # so that of equal curves each is seen
        on_cross = [place(*point) for point in zip(curve.steps, curve.on_cross, strict=True)]
        off_cross = [place(*point) for point in zip(curve.steps, curve.off_cross, strict=True)]
        pen.line(on_cross, color, width)
        pen.dashes(off_cross, color, width)
        for point in on_cross:
            pen.disc(point, 2.5 + width / 2, color, color)
        for point in off_cross:
            pen.disc(point, 2.5 + width / 2, "white", color, 2)
    _draw_legend(pen, curves, (right - 236, place(0, 0.86)[1]))


def _draw_axes(pen: Pen, place: Callable[[float, float], Point], last: int, lowest: float) -> None:
    left, top, right, bottom = PLOT
    for tenth in range(round(10 * lowest), 11):
        y = place(0, tenth / 10)[1]
        pen.line([(left, y), (right, y)], GRID, 1)
        pen.text((left - 8, y), f"{10 * tenth} %", INK, 13, "rm")
    intervals = (digit * 10**power for power in count() for digit in (1, 2, 5))
    for step in range(0, last + 1, next(interval for interval in intervals if last <= 7 * interval)):
        x = place(step, 0.5)[0]
        pen.line([(x, bottom), (x, bottom + 5)], INK, 1)
        pen.text((x, bottom + 9), str(step), INK, 13, "mt")
    pen.line([(left, top), (left, bottom), (right, bottom)], INK, 1)
    pen.text(((left + right) / 2, bottom + 42), "training step", size=14)
    pen.vertical_text((left - 50, (top + bottom) / 2), "accuracy on query cells")
    pen.text((left, top - 30), "What R loops of criss-cross attention can know", size=17, anchor="lm")


def _draw_legend(pen: Pen, curves: Mapping[int, Curve], corner: Point) -> None:
    left, top = corner
    for column, title in ((96, "on a key's cross"), (196, "off it")):
        pen.text((left + column, top), title, PALE, 13)
    for row, recurrence in enumerate(curves, start=1):
        color, y = COLORS[recurrence % len(COLORS)], top + 24 * row
        pen.text((left, y), f"R = {recurrence}", color, 14, "lm")
        pen.line([(left + 68, y), (left + 124, y)], color, 2.5)
        pen.disc((left + 96, y), 4, color, color)
        pen.dashes([(left + 168, y), (left + 224, y)], color, 2.5)
        pen.disc((left + 196, y), 4, "white", color, 2)


def _draw_sample(pen: Pen, sample: Picture, cell: int) -> None:
    left, top, side = SAMPLE
    assert sample.region is not None
    region = sample.region[cell // 2 :: cell, cell // 2 :: cell]
    query = sample.mask[cell // 2 :: cell, cell // 2 :: cell] != 255
    key_class = int(sample.mask[sample.mask != 255].max(initial=0))
    pitch = side / len(region)
    pen.image((left, top), sample.image, side)
    for row, column in np.argwhere(region == KEY):
        pen.frame((left + column * pitch, top + row * pitch), pitch, "white", 6)
        pen.frame((left + column * pitch, top + row * pitch), pitch, "black", 3)
    for row, column in np.argwhere(query):
        centre = (left + (column + 0.5) * pitch, top + (row + 0.5) * pitch)
        pen.disc(centre, 5.5, "black" if region[row, column] == ON_CROSS else "white", "black", 2)
    name = CLASS_NAMES[key_class]
    pen.text((left, top - 30), f"A sample: every grey cell means {name}", size=17, anchor="lm")
    y = top + side + 24
    pen.frame((left + 1, y - 9), 18, "black", 3)
    pen.text((left + 28, y), "key", INK, 14, "lm")
    pen.disc((left + 96, y), 5.5, "black", "black", 2)
    pen.text((left + 110, y), "query on a key's cross", INK, 14, "lm")
    pen.disc((left + 288, y), 5.5, "white", "black", 2)
    pen.text((left + 302, y), "off it", INK, 14, "lm")


def _scaled(points: Sequence[Point]) -> list[Point]:
    return [(x * SUPERSAMPLE, y * SUPERSAMPLE) for x, y in points]


def _pieces(points: Sequence[Point], dash: float, gap: float) -> Iterator[list[Point]]:
    """The dashes along a polyline; the pattern goes on over its corners."""
    position = 0.0  # within the pattern
    for (x, y), (to_x, to_y) in pairwise(points):
        length, done = hypot(to_x - x, to_y - y), 0.0
        while done < length:
            step = min(length - done, (dash if position < dash else dash + gap) - position)
            if position < dash:
                ends = (done / length, (done + step) / length)
                yield [(x + share * (to_x - x), y + share * (to_y - y)) for share in ends]
            done += step
            position = (position + step) % (dash + gap)
