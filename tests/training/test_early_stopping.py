"""When a run ends early."""

import json
import math
from typing import Any

import pytest

from ccnet.errors import CheckpointError, ConfigError
from ccnet.training.early_stopping import EarlyStopping


def stops_at(scores: list[float], metric: str = "mIoU", patience: int = 2, min_delta: float = 0.0) -> int | None:
    """The number of evaluations after which the run stops."""
    stopping = EarlyStopping(metric, patience, min_delta, [metric])
    for number, score in enumerate(scores, start=1):
        if stopping.update({metric: score, "other": -float(number)}):
            assert stopping.stopped
            return number
        assert not stopping.stopped
    return None


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], {}, None),
        ([0.1, 0.3, 0.2, 0.3], {}, 4),  # as good is not better
        ([0.1, 0.3, 0.2, 0.31, 0.2, 0.2], {}, 6),  # something better begins the count again
        ([0.3, 0.2], {"patience": 1}, 2),
        ([0.0, 0.05, 0.1, 0.15, 0.2], {"min_delta": 0.1, "patience": 3}, None),  # small steps add up
        ([0.0, 0.05, 0.1, 0.2], {"min_delta": 0.1}, 3),
        ([math.nan, 0.1, 0.2], {}, None),
        ([0.1, math.nan, math.nan], {}, 3),
        ([math.nan, math.nan], {}, 2),
        ([0.1, math.inf, 0.05], {}, 3),
        ([3.0, 2.0, 1.0, 0.5], {"metric": "loss"}, None),
        ([1.0, 2.0, 3.0], {"metric": "loss"}, 3),
        ([1.0, -math.inf, 1.0], {"metric": "loss"}, 3),
        ([1.0, 2.0, 3.0], {"metric": "IoU/road"}, None),
    ],
)
def test_when_it_stops(scores: list[float], options: dict[str, Any], expected: int | None) -> None:
    """Oracle: counted by hand."""
    assert stops_at(scores, **options) == expected


@pytest.mark.parametrize("cut", range(5))
def test_resuming_is_exact(cut: int) -> None:
    """Oracle: the run that was not interrupted; the state goes through JSON."""
    scores = [0.1, 0.3, 0.2, 0.25, 0.1]
    whole, first = EarlyStopping("mIoU", 3, 0.0, ["mIoU"]), EarlyStopping("mIoU", 3, 0.0, ["mIoU"])
    answers = [whole.update({"mIoU": score}) for score in scores]
    before = [first.update({"mIoU": score}) for score in scores[:cut]]
    second = EarlyStopping("mIoU", 3, 0.0, ["mIoU"])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + [second.update({"mIoU": score}) for score in scores[cut:]] == answers == [False] * 4 + [True]
    assert second.state_dict() == whole.state_dict()


def test_an_unknown_metric_names_those_that_there_are() -> None:
    """Oracle: the names of the scores."""
    with pytest.raises(ConfigError, match=r"metric=miou: an evaluation gives mIoU, aAcc$"):
        EarlyStopping("miou", 2, 0.0, ["mIoU", "aAcc"])


@pytest.mark.parametrize(("patience", "min_delta"), [(0, 0.0), (-1, 0.0), (1, -0.1), (1, math.nan), (1, math.inf)])
def test_settings_that_make_no_sense(patience: int, min_delta: float) -> None:
    """Oracle: the documented error, which names the key."""
    with pytest.raises(ConfigError, match=r"trainer.early_stopping.(patience|min_delta) must be at least"):
        EarlyStopping("mIoU", patience, min_delta, ["mIoU"])


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"best": 0.5},
        {"best": 0.5, "waited": -1},
        {"best": 0.5, "waited": True},
        {"best": 0.5, "waited": 1.5},
        {"best": math.nan, "waited": 1},
        {"best": math.inf, "waited": 1},
        {"best": "0.5", "waited": 1},
        {"best": True, "waited": 1},
        {"best": 0.5, "waited": 1, "more": 1},
    ],
)
def test_a_state_from_a_stranger(state: object) -> None:
    """Oracle: the documented error; what was known before stays."""
    stopping = EarlyStopping("mIoU", 2, 0.0, ["mIoU"])
    stopping.update({"mIoU": 0.5})
    with pytest.raises(CheckpointError, match="early stopping"):
        stopping.load_state_dict(state)
    assert stopping.state_dict() == {"best": 0.5, "waited": 0}
