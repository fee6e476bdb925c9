"""How a run on the context probe ends: one line, and a figure of its sweep."""

import json
import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

from ccnet.errors import DataError
from ccnet.evaluation.context_probe_figure import Curve, draw_figure
from ccnet.evaluation.outcome import Picture
from ccnet.visualize import save_png

logger = logging.getLogger("ccnet")

REGIONS = ("on-cross", "off-cross")
FIGURE = "context_probe.png"
SWEPT_NAME = re.compile(r"(.*\bhead\.recurrence=)(\d+)(.*)")  # of a run's folder, where a sweep (-m) named it


class ContextProbeReport:
    """Prints `context probe R=2: on-cross 1.000 off-cross 1.000` and draws report/context_probe.png: the accuracy over
    steps of this run and of its sweep's other runs so far, and a sample.

    Args:
        recurrence: the run's R.
        cell: side of the data set's cells in pixels.
    """

    def __init__(self, recurrence: int, cell: int) -> None:
        self.recurrence = recurrence
        self.cell = cell

    def __call__(self, folder: Path, pictures: Sequence[Picture] = ()) -> None:
        """Tells what the run's files say; without pictures (a finished run) the figure stays as it is.

        Raises:
            DataError: the run's data set has other regions.
        """
        report = folder / "report"
        regions = json.loads((report / "metrics.json").read_text(encoding="utf-8")).get("regions", {})
        if not set(REGIONS) <= regions.keys():
            raise DataError(f"{folder} was not scored {' and '.join(REGIONS)}; its report needs dataset=context_probe")
        on_cross, off_cross = (math.nan if regions[name]["aAcc"] is None else regions[name]["aAcc"] for name in REGIONS)
        print(f"context probe R={self.recurrence}: on-cross {on_cross:.3f} off-cross {off_cross:.3f}", flush=True)
        if pictures:
            curves = {value: read_curve(run) for value, run in self.runs(folder).items()}
            save_png(report / FIGURE, draw_figure(curves, pictures[0], self.cell))
            logger.info("figure in %s", report / FIGURE)

    def runs(self, folder: Path) -> dict[int, Path]:
        """R -> run folder: this one and those beside it that differ in `head.recurrence` alone, by R."""
        own = SWEPT_NAME.fullmatch(folder.name)
        if own is None:
            return {self.recurrence: folder}
        beside = [path.parent for path in folder.parent.glob("*/metrics.jsonl")]
        matches = {run: SWEPT_NAME.fullmatch(run.name) for run in beside}
        same = {int(match[2]): run for run, match in matches.items() if match and match.group(1, 3) == own.group(1, 3)}
        return dict(sorted(same.items()))


def read_curve(run: Path) -> Curve:
    """The evaluations of a run so far."""
    rows = []
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:  # a line that a crash cut short
            continue
    rows = [row for row in rows if all(f"aAcc/{name}" in row for name in REGIONS)]
    on_cross, off_cross = ([row[f"aAcc/{name}"] for row in rows] for name in REGIONS)
    return Curve([row["step"] for row in rows], on_cross, off_cross)
