"""What an evaluation left in a folder, which may be a stranger's."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccnet.config import from_yaml
from ccnet.errors import DataError
from ccnet.evaluation.bootstrap import mean_and_iou
from ccnet.evaluation.images_csv import read_images
from ccnet.evaluation.outcome import ImageScores
from ccnet.run import CONFIG
from ccnet.schema import RunConfig
from ccnet.sealed_folder import read_plain_file

NETWORK = ("model", "backbone", "attention", "head")
NO_FLAGS = {"batch_size"}  # does not change a score
METRICS, IMAGES = "metrics.json", "images.csv"
MOST_BYTES = 1 << 24
ROUNDING = 1e-6  # between the mIoU of the confusion matrix and that of the added counts


@dataclass(frozen=True)
class RunReport:
    """An evaluation.

    Args:
        path: of its folder.
        checkpoint: SHA-256 of what was evaluated; none where the report does not say.
        flags: how it was, each value as JSON; none where the report does not say.
        network: what was asked, overrides included, as JSON.
        images: all that were evaluated, in the data set's order.
        class_names: one per class.
    """

    path: Path
    checkpoint: str | None
    flags: Mapping[str, str] | None
    network: str
    images: Sequence[ImageScores]
    class_names: Sequence[str]

    @property
    def mean_iou(self) -> float:
        """Of all images together, in 0..1."""
        return float(mean_and_iou(self.images)[0])

    def config(self) -> RunConfig:
        """That of the run in whose report/ the folder lies.

        Raises:
            DataError: it lies in none.
            ConfigError: the configuration cannot be read.
        """
        runs = [folder / CONFIG for folder in self.path.resolve().parents[:2]]
        found = next((path for path in runs if path.is_file()), None)
        if found is None:
            raise DataError(f"{self.path} lies in no run, whose {CONFIG} would tell its seed; name a run")
        return from_yaml(found)


def read_report(where: Path, name: str | None = None) -> RunReport:
    """The report of a run.

    Args:
        where: a run folder, or the folder of a report itself.
        name: of the report below the run's report/; without one it is that of the end of training.

    Raises:
        DataError: it is missing or damaged.
    """
    is_report = name is None and (where / METRICS).is_file()
    folder = where if is_report else where / "report" / (name or "")
    if not where.is_dir():
        raise DataError(f"{where}: no such run or report folder")
    for file in (METRICS, IMAGES):
        if not (folder / file).is_file():
            raise DataError(f"{folder} holds no {file}{_others(folder)}; run: python tools/val.py --checkpoint RUN")
    images, class_names = read_images(folder / IMAGES)
    try:
        metrics = json.loads(read_plain_file(folder / METRICS, MOST_BYTES))
        flags = metrics.get("evaluation")
        report = RunReport(
            path=folder,
            checkpoint=str(metrics["sha256"]) if metrics.get("sha256") else None,
            flags={key: json.dumps(flags[key]) for key in flags.keys() - NO_FLAGS} if flags else None,
            network=json.dumps([metrics.get(part) for part in NETWORK], sort_keys=True),
            images=images,
            class_names=class_names,
        )
    except (OSError, ValueError, RecursionError, AttributeError) as error:  # what JSON can hold in place of an object
        raise DataError(f"{folder / METRICS} cannot be read: {error}") from None
    if not _agree(metrics.get("mIoU"), report.mean_iou):
        raise DataError(f"{folder}: {METRICS} and {IMAGES} are not of one evaluation; write both with tools/val.py")
    return report


def _agree(stored: Any, added: float) -> bool:
    if math.isnan(added):
        return stored is None
    return isinstance(stored, float) and math.isclose(stored, added, abs_tol=ROUNDING)


def _others(folder: Path) -> str:
    """Reports that could be meant instead."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{IMAGES}"))
    return f", but has {', '.join(names[:4])} (--report NAME)" if names else ""
