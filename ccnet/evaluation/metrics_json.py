"""All figures of an evaluation as plain values: the content of metrics.json."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ccnet.evaluation.bootstrap import Interval
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.outcome import Outcome

MEANS = ("mIoU", "mAcc", "aAcc", "fwIoU", "mPrecision", "mDice", "mBIoU", "loss")  # as `Scores.as_dict` calls them


def metrics_dict(outcome: Outcome) -> dict[str, Any]:
    """Scores in 0..1 and the loss in nats, each class by its name; what is not defined is None, and regions are there
    where the data set names some. An interval is [low, high], 95 % of a bootstrap over images.
    """
    scores = outcome.scores
    means = scores.as_dict()
    regions = {name: {"aAcc": _defined(accuracy)} for name, accuracy in scores.region_accuracy.items()}
    return {
        **{name: _defined(means.get(name, math.nan)) for name in MEANS},
        "mIoU_interval": _ends(outcome.intervals.mean_iou),
        "images": len(outcome.images),
        "fingerprint": outcome.fingerprint,
        "classes": _classes(scores, outcome.intervals.iou),
        **({"regions": regions} if regions else {}),
    }


def plain(value: Any) -> Any:
    """The same without numbers that JSON does not know: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return _defined(value) if isinstance(value, float) else value


def _classes(scores: Scores, ious: Sequence[Interval]) -> dict[str, dict[str, Any]]:
    columns = {
        "IoU": scores.iou,
        "accuracy": scores.accuracy,
        "recall": scores.accuracy,
        "precision": scores.precision,
        "Dice": scores.dice,
        "boundary_IoU": scores.boundary_iou,
    }
    pixels = scores.confusion.sum(dim=1).tolist()
    classes = {}
    for index, name in enumerate(scores.class_names):
        figures = {key: _defined(float(values[index])) for key, values in columns.items()}
        classes[name] = {**figures, "IoU_interval": _ends(ious[index]), "pixels": pixels[index]}
    return classes


def _ends(interval: Interval) -> list[float] | None:
    return None if interval.low is None or interval.high is None else [interval.low, interval.high]


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
