"""IoU of each class as bars with intervals, and how the images' scores are spread."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ccnet.evaluation.page.axes import DASH, Axis, label, per_cent

BAR = 18  # height in pixels
BINS = 20
WIDTH, HEIGHT = 720, 220
LEFT, TOP, RIGHT, BOTTOM = 40.0, 26.0, 708.0, 176.0


def class_bars(classes: Mapping[str, Mapping[str, Any]], colors: Sequence[str]) -> str:
    """A table with a bar of each class, from 0 to 100 %.

    Args:
        classes: as in metrics.json, in the order of the classes.
        colors: of the classes, as CSS writes them.
    """
    head = (
        '<thead><tr><th></th><th><svg width="100%" height="16" aria-hidden="true">'
        + "".join(
            f'<text x="{tick}%" y="12" text-anchor="{anchor}">{tick}</text>'
            for tick, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end"))
        )
        + "</svg></th><th>IoU</th><th>95 %</th></tr></thead>"
    )
    rows = "\n".join(_row(name, figures, color) for (name, figures), color in zip(classes.items(), colors, strict=True))
    return f'<table class="bars">{head}<tbody>\n{rows}\n</tbody></table>'


def swatch(color: str) -> str:
    """A small square of a class's colour."""
    return f'<i style="background: {color}"></i>'


def class_name(name: str, color: str) -> str:
    """The head of a class's row."""
    return f'<th title="{label(name, 400)}">{swatch(color)}<span><bdi>{label(name)}</bdi></span></th>'


def interval(ends: Sequence[float] | None) -> str:
    """The ends of an interval in per cent; a dash where there is none."""
    return DASH if ends is None else f"{per_cent(ends[0])} {DASH} {per_cent(ends[1])}"


def _row(name: str, figures: Mapping[str, Any], color: str) -> str:
    iou, ends = figures["IoU"], figures["IoU_interval"]
    told = "no score" if iou is None else per_cent(iou)
    within = f", 95 % interval {interval(ends)}" if ends else ""
    return (
        f"<tr>{class_name(name, color)}"
        f"<td>{bar(iou, ends, f'{label(name)}: {told}{within}', BAR)}</td>"
        f"<td>{told}</td><td>{interval(ends)}</td></tr>"
    )


def bar(value: float | None, ends: Sequence[float] | None, told: str, height: int) -> str:
    """A bar as wide as its room is at 100 %.

    Args:
        value: in 0..1; None: no bar.
        ends: of its interval.
        told: under the pointer and to screen readers, safe within the page.
        height: in pixels.
    """
    shapes = '<rect class="track" width="100%" height="100%" rx="3"/>'
    if value is not None:
        shapes += f'<rect class="bar" width="{100 * value:.2f}%" height="100%" rx="3"/>'
    if ends:
        shapes += "".join(_whisker(ends[0], ends[1], height))
    return f'<svg width="100%" height="{height}" role="img" aria-label="{told}"><title>{told}</title>{shapes}</svg>'


def _whisker(low: float, high: float, height: int) -> Iterator[str]:
    middle, (left, right) = height / 2, (f"{100 * end:.2f}%" for end in (low, high))
    for style in ("halo", "whisker"):
        yield f'<line class="{style}" x1="{left}" x2="{right}" y1="{middle:g}" y2="{middle:g}"/>'
    for end in (left, right):
        yield f'<line class="whisker" x1="{end}" x2="{end}" y1="{height / 4:g}" y2="{3 * height / 4:g}"/>'


def histogram(values: Sequence[float]) -> str:
    """How many images have which mean IoU, in bins of 5 %, with the median marked.

    Args:
        values: of the images that have one, in 0..1; at least one.
    """
    counts = np.histogram(values, BINS, (0.0, 1.0))[0].tolist()
    across, upward = Axis(0, 1, LEFT, RIGHT), Axis(0, max(counts), BOTTOM, TOP)
    median = float(np.median(values))
    shapes = [*_frame(across, upward)]
    for index, count in enumerate(counts):
        left, right, top = across.place(index / BINS), across.place((index + 1) / BINS), upward.place(count)
        shapes.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{top:.1f}" width="{right - left - 2:.1f}" '
            f'height="{BOTTOM - top:.1f}"><title>{5 * index} to {5 * index + 5} %: {count} images</title></rect>'
        )
    x = across.place(median)
    shapes.append(f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 14:.1f}" y2="{BOTTOM:.1f}"/>')
    side, anchor = (-6, "end") if median > 0.5 else (6, "start")
    shapes.append(f'<text x="{x + side:.1f}" y="{TOP - 6:.1f}" text-anchor="{anchor}">median {per_cent(median)}</text>')
    return (
        f'<svg class="chart spread" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="mean IoU of {len(values)} images, median {per_cent(median)}">\n' + "\n".join(shapes) + "\n</svg>"
    )


def _frame(across: Axis, upward: Axis) -> Iterator[str]:
    for tick in upward.ticks(5):
        if tick == round(tick):
            y = upward.place(tick)
            yield f'<line class="grid" x1="{LEFT:.1f}" x2="{RIGHT:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text x="{LEFT - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.0f}</text>'
    for tenth in range(0, 11, 2):
        x = across.place(tenth / 10)
        yield f'<text x="{x:.1f}" y="{BOTTOM + 18:.1f}" text-anchor="middle">{10 * tenth}</text>'
    yield f'<line class="axis" x1="{LEFT:.1f}" x2="{RIGHT:.1f}" y1="{BOTTOM:.1f}" y2="{BOTTOM:.1f}"/>'
    middle = (LEFT + RIGHT) / 2
    yield f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">mean IoU of an image, per cent</text>'
