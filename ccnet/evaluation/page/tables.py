"""All figures of the classes, and what was evaluated, as tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccnet.evaluation.page.axes import label, per_cent
from ccnet.evaluation.page.bars import class_name, interval

SCORES = {  # of a class in metrics.json: title, what it is
    "accuracy": ("accuracy", "share of the class's pixels that were found; its recall"),
    "precision": ("precision", "share of the pixels called so that are"),
    "Dice": ("Dice", "twice the hits over true and predicted pixels"),
    "boundary_IoU": ("boundary IoU", "IoU of the bands along the outlines"),
}


def class_table(classes: Mapping[str, Mapping[str, Any]], colors: Sequence[str]) -> str:
    """A row of figures for each class, in per cent.

    Args:
        classes: as in metrics.json, in the order of the classes.
        colors: of the classes, as CSS writes them.
    """
    titles = "".join(f'<th title="{told}">{title}</th>' for title, told in SCORES.values())
    head = f"<tr><th>class</th><th>IoU</th><th>95 % interval</th>{titles}<th>pixels</th></tr>"
    rows = "\n".join(_row(name, figures, color) for (name, figures), color in zip(classes.items(), colors, strict=True))
    return f'<div class="scroll"><table class="figures"><thead>{head}</thead>\n<tbody>\n{rows}\n</tbody></table></div>'


def about_table(values: Mapping[str, Any]) -> str:
    """A row for each value, nested keys as dotted ones."""
    rows = "\n".join(
        f"<tr><th>{label(key, 80)}</th><td><bdi>{label(value, 500)}</bdi></td></tr>" for key, value in _flat(values)
    )
    return f'<table class="about"><tbody>\n{rows}\n</tbody></table>'


def _row(name: str, figures: Mapping[str, Any], color: str) -> str:
    cells = [per_cent(figures["IoU"]), interval(figures["IoU_interval"])]
    cells += [per_cent(figures[key]) for key in SCORES]
    cells += [f"{figures['pixels']:,}"]
    return f"<tr>{class_name(name, color)}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
