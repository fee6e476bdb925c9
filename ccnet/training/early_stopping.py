"""The end of a run that no longer gets better."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from ccnet.errors import CheckpointError, ConfigError


class EarlyStopping:
    """Asked after every evaluation whether to stop.

    Args:
        metric: the name of a score, of which more is better, or `loss`, of which less is.
        patience: so many evaluations in a row may bring nothing better.
        min_delta: by how much a score has to beat the best one.
        known: names of the scores that an evaluation gives.

    Raises:
        ConfigError: an unknown metric, a patience below 1 or a negative `min_delta`.
    """

    def __init__(self, metric: str, patience: int, min_delta: float, known: Collection[str]) -> None:
        if metric not in known:
            raise ConfigError(f"trainer.early_stopping.metric={metric}: an evaluation gives {', '.join(known)}")
        if patience < 1:
            raise ConfigError(f"trainer.early_stopping.patience must be at least 1 or null, got {patience}")
        if not (math.isfinite(min_delta) and min_delta >= 0):
            raise ConfigError(f"trainer.early_stopping.min_delta must be at least 0, got {min_delta}")
        self.metric, self.patience, self.min_delta = metric, patience, min_delta
        self.best: float | None = None
        self.waited = 0

    @property
    def stopped(self) -> bool:
        """Whether the patience is at its end; a resumed run may learn so before its first step."""
        return self.waited >= self.patience

    def update(self, scores: Mapping[str, float]) -> bool:
        """Takes note of an evaluation; True ends the run. A score that is missing or not finite is never better."""
        score = scores.get(self.metric, math.nan)
        if math.isfinite(score) and (self.best is None or self._gain(score, self.best) > self.min_delta):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        return self.stopped

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the best score so far, and the evaluations since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Any) -> None:
        """The inverse of `state_dict`, for values that come out of a file and are not trusted.

        Raises:
            CheckpointError: something else stands there.
        """
        values = state if isinstance(state, Mapping) else {}
        best, waited = values.get("best"), values.get("waited")
        is_score = best is None or (type(best) in (int, float) and abs(best) < 1e300)
        if values.keys() != {"best", "waited"} or not is_score or type(waited) is not int or waited < 0:
            raise CheckpointError("the state of early stopping must be a score and a number of evaluations: damaged")
        self.best, self.waited = best, waited

    def _gain(self, score: float, best: float) -> float:
        return best - score if self.metric == "loss" else score - best
