"""The report as one HTML file that needs nothing but itself."""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ccnet.evaluation.outcome import Outcome
from ccnet.evaluation.page.axes import DASH, label, number, per_cent
from ccnet.evaluation.page.bars import bar, class_bars, histogram, interval, swatch
from ccnet.evaluation.page.curves import draw_curves
from ccnet.evaluation.page.gallery import gallery
from ccnet.evaluation.page.matrix import NUMBERED, heat_map
from ccnet.evaluation.page.run_log import Series
from ccnet.evaluation.page.style import STYLE
from ccnet.evaluation.page.tables import about_table, class_table
from ccnet.visualize import ERROR_COLOR, IGNORE_COLOR, Palette

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mIoU {score}, {title}</title>
<style>{style}</style>
</head>
<body>
<header><p>Segmentation report</p>
<h1>{title}</h1>
<p>{subtitle}</p></header>
<main>
{sections}
</main>
<footer><p>Scores come from one confusion matrix over all valid pixels at the labels' own resolution; a class that
neither labels nor predictions contain is left out of the means, and of the mean accuracy every class that the labels do
not contain. Intervals are 95 % of a bootstrap over images.</p>
</footer>
</body>
</html>
"""
TILES = {
    "mean accuracy": ("mAcc", "of the classes"),
    "pixel accuracy": ("aAcc", "of all pixels"),
    "weighted IoU": ("fwIoU", "by frequency"),
    "boundary IoU": ("mBIoU", "of the classes"),
}


def render(
    metrics: Mapping[str, Any], about: Mapping[str, Any], outcome: Outcome, palette: Palette, series: dict[str, Series]
) -> str:
    """The page.

    Args:
        metrics: content of metrics.json.
        about: what was evaluated, and how.
        outcome: the evaluation.
        palette: colours of the classes.
        series: curves of the run; may be empty.
    """
    colors = [f"rgb({red}, {green}, {blue})" for red, green, blue in palette]
    title, subtitle = _title(about), _subtitle(metrics, about)
    sections = (
        _tiles(metrics),
        _section("Classes", "IoU in per cent, with its interval.", class_bars(metrics["classes"], colors)),
        _curves(series, about),
        _matrix(outcome),
        _figures(metrics, colors),
        _spread(outcome),
        _worst(outcome, palette, colors),
        _about(metrics, about),
    )
    return PAGE.format(
        score=per_cent(metrics["mIoU"]), title=title, subtitle=subtitle, style=STYLE,
        sections="\n".join(filter(None, sections)),
    )  # fmt: skip


def _title(about: Mapping[str, Any]) -> str:
    parts = PurePath(str(about.get("checkpoint", "last evaluation"))).parts
    words = [part for part in parts[-3:] if part != "checkpoints"] if "checkpoints" in parts else parts[-1:]
    split = f" on {about['split']}" if "split" in about else ""
    return label(f"{' / '.join(words)}{split}", 200)


def _subtitle(metrics: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    words = [f"{metrics['images']:,} images", f"{len(metrics['classes'])} classes"]
    words += [f"step {about['step']:,}"] if type(about.get("step")) is int else []
    return " · ".join(words)


def _section(title: str, told: str, body: str, kind: str = "short") -> str:
    return f'<section class="{kind}"><h2>{title}</h2>\n<p>{told}</p>\n{body}\n</section>'


def _tiles(metrics: Mapping[str, Any]) -> str:
    ends = metrics["mIoU_interval"]
    within = f"95 % interval {interval(ends)}" if ends else "no interval"
    drawn = bar(metrics["mIoU"], ends, f"mIoU {per_cent(metrics['mIoU'])}, {within}", 10)
    tiles = [
        f'<div class="first"><dt>mIoU</dt><dd>{per_cent(metrics["mIoU"])}{drawn}<small>{within}</small></dd></div>'
    ]
    for title, (key, told) in TILES.items():
        tiles.append(f"<div><dt>{title}</dt><dd>{per_cent(metrics[key])}<small>{told}</small></dd></div>")
    loss = DASH if metrics["loss"] is None else number(metrics["loss"])
    tiles.append(f"<div><dt>loss</dt><dd>{loss}<small>nats a pixel</small></dd></div>")
    return f'<section class="summary" aria-label="summary"><dl class="tiles">\n{"".join(tiles)}\n</dl></section>'


def _curves(series: dict[str, Series], about: Mapping[str, Any]) -> str:
    step = about.get("step")
    drawn = draw_curves(series, step if type(step) is int else None)
    told = "The dotted line is the evaluated step; the pointer tells the numbers."
    return _section("Training", told, f'<div class="charts">\n{drawn}\n</div>') if drawn else ""


def _matrix(outcome: Outcome) -> str:
    names = outcome.scores.class_names
    told = "True classes in rows, predicted ones in columns; right in blue, wrong in orange, per cent of the row."
    told += "" if len(names) <= NUMBERED else " The pointer tells the numbers."
    drawn = heat_map(outcome.scores.confusion.numpy(), names)
    return _section("Confusion", told, f'<div class="scroll">{drawn}</div>')


def _figures(metrics: Mapping[str, Any], colors: Sequence[str]) -> str:
    told = "In per cent; a dash where a class is in neither labels nor predictions, for the accuracy where it is not in"
    told += " the labels, and for the interval where one image alone has it."
    regions = [f"{label(name)} {per_cent(scores['aAcc'])}" for name, scores in metrics.get("regions", {}).items()]
    told += f" Pixel accuracy by region: {', '.join(regions)}." if regions else ""
    return _section("All figures", told, class_table(metrics["classes"], colors), "long")


def _spread(outcome: Outcome) -> str:
    values = [image.mean_iou for image in outcome.images if not math.isnan(image.mean_iou)]
    if not values:
        return ""
    left_out = len(outcome.images) - len(values)
    told = "How many images have which mean IoU over their own classes."
    told += f" {left_out} without any valid pixel are left out." if left_out else ""
    return _section("Images", told, histogram(values))


def _worst(outcome: Outcome, palette: Palette, colors: Sequence[str]) -> str:
    if not outcome.worst:
        return ""
    legend = "".join(
        f"<li>{swatch(color)}<bdi>{label(name)}</bdi></li>"
        for name, color in [
            *zip(outcome.scores.class_names, colors, strict=True),
            ("ignored", f"rgb{IGNORE_COLOR}"),
            ("wrong", f"rgb{ERROR_COLOR}"),
        ]
    )
    scores = {image.name: image.mean_iou for image in outcome.images}
    told = f"The {len(outcome.worst)} images of the lowest mean IoU over their own classes, the worst first."
    body = f'<ul class="legend">{legend}</ul>\n<div class="gallery">\n{gallery(outcome.worst, palette, scores)}\n</div>'
    return _section("Worst images", told, body, "long")


def _about(metrics: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    table = about_table({**about, "images": metrics["images"], "data fingerprint": metrics["fingerprint"]})
    return f'<section class="long"><details><summary>What was evaluated</summary>\n{table}\n</details></section>'
