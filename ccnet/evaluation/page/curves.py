"""Curves over training steps, as SVG."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ccnet.evaluation.page.axes import Axis, label, number, per_cent
from ccnet.evaluation.page.run_log import Series, loss_terms
from ccnet.evaluation.page.style import NUM_SERIES

WIDTH, HEIGHT = 420, 236
LEFT, TOP, RIGHT, BOTTOM = 50.0, 12.0, 412.0, 192.0
STRIPS = 90  # that answer to the pointer
DOTS = 60  # a series of more points is a line without


@dataclass(frozen=True)
class Chart:
    """Some series with one axis; the marked step is that of the evaluation."""

    title: str
    unit: str
    series: Mapping[str, Series]
    marked: int | None
    shares: bool = False

    @cached_property
    def across(self) -> Axis:
        """Steps, from 0."""
        return Axis(0, max(max(series.steps) for series in self.series.values()) or 1, LEFT, RIGHT)

    @cached_property
    def upward(self) -> Axis:
        """Values, from 0 or the lowest below it."""
        values = [value for series in self.series.values() for value in series.values]
        low, high = min(0.0, *values), max(0.0, *values)
        return Axis(low, high if high > low else low + 1, BOTTOM, TOP)

    def told(self, value: float) -> str:
        """A value as it is written."""
        return per_cent(value) if self.shares else number(value)


def draw_curves(series: dict[str, Series], marked: int | None) -> str:
    """Losses, learning rate and validation mIoU, as far as they are there.

    Args:
        series: of the run, as `read_run_log` finds them.
        marked: step of the checkpoint that was evaluated.
    """
    charts = (
        Chart("Loss", "nats, weighted", loss_terms(series), marked),
        Chart("Validation mIoU", "per cent", _only(series, "mIoU"), marked, shares=True),
        Chart("Learning rate", "of the first group", _only(series, "lr"), marked),
    )
    return "\n".join(_figure(chart) for chart in charts if chart.series)


def _only(series: Mapping[str, Series], name: str) -> dict[str, Series]:
    return {name: series[name]} if name in series else {}


def _figure(chart: Chart) -> str:
    described = f"{chart.title} over training steps: {', '.join(map(_last, chart.series.items()))}"
    body = "\n".join((*_axes(chart), *_lines(chart), *_strips(chart)))
    legend = "".join(
        f'<li><i class="curve s{index}"></i><bdi>{label(name)}</bdi></li>' for index, name in enumerate(chart.series)
    )
    return (
        f'<figure><h3>{chart.title} <small class="unit">({chart.unit})</small></h3>\n'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">\n{body}\n</svg>\n'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _last(entry: tuple[str, Series]) -> str:
    name, series = entry
    return f"{label(name)} {number(series.values[-1])} at step {series.steps[-1]}"


def _axes(chart: Chart) -> Iterator[str]:
    for tick in chart.upward.ticks():
        y = chart.upward.place(tick)
        yield f'<line class="grid" x1="{LEFT:.1f}" x2="{RIGHT:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        told = f"{100 * tick:g}" if chart.shares else f"{tick:g}"
        yield f'<text x="{LEFT - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{told}</text>'
    for tick in chart.across.ticks():
        x = chart.across.place(tick)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{BOTTOM:.1f}" y2="{BOTTOM + 4:.1f}"/>'
        yield f'<text x="{x:.1f}" y="{BOTTOM + 18:.1f}" text-anchor="middle">{_step(tick)}</text>'
    yield f'<line class="axis" x1="{LEFT:.1f}" x2="{RIGHT:.1f}" y1="{BOTTOM:.1f}" y2="{BOTTOM:.1f}"/>'
    yield f'<text x="{(LEFT + RIGHT) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">training step</text>'
    if chart.marked is not None and 0 < chart.marked <= chart.across.high:
        x = chart.across.place(chart.marked)
        yield f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP:.1f}" y2="{BOTTOM:.1f}"/>'


def _step(tick: float) -> str:
    return f"{tick / 1000:g}k" if tick >= 10_000 else f"{tick:g}"


def _lines(chart: Chart) -> Iterator[str]:
    for index, (name, series) in enumerate(chart.series.items()):
        points = [
            f"{chart.across.place(step):.1f},{chart.upward.place(value):.1f}"
            for step, value in zip(series.steps, series.values, strict=True)
        ]
        style = f"curve s{index % NUM_SERIES}{' dashed' if name == 'val/loss' else ''}"
        yield f'<polyline class="{style}" points="{" ".join(points)}"/>'
        for point in points if len(points) <= DOTS else []:
            x, _, y = point.partition(",")
            yield f'<circle class="s{index % NUM_SERIES}" cx="{x}" cy="{y}" r="2"/>'


def _strips(chart: Chart) -> Iterator[str]:
    """Upright strips that tell the values nearest to their middle when the pointer is there."""
    steps = sorted({step for series in chart.series.values() for step in series.steps})
    steps = steps[:: -(-len(steps) // STRIPS)]
    middles = [chart.across.place(step) for step in steps]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(middles)), RIGHT]
    for step, (left, right) in zip(steps, pairwise(edges), strict=True):
        values = (f"{label(name)} {chart.told(_nearest(each, step))}" for name, each in chart.series.items())
        yield (
            f'<rect class="hit" x="{left:.1f}" y="{TOP:.1f}" width="{right - left:.1f}" '
            f'height="{BOTTOM - TOP:.1f}"><title>step {step:,}: {", ".join(values)}</title></rect>'
        )


def _nearest(series: Series, step: int) -> float:
    after = bisect_left(series.steps, step)
    near: Sequence[int] = range(max(after - 1, 0), min(after + 1, len(series.steps)))
    return series.values[min(near, key=lambda index: abs(series.steps[index] - step))]
