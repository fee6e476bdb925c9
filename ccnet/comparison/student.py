"""Means over a few runs: intervals from Student's t. They take the scores of runs to be about normal."""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

from ccnet.evaluation.bootstrap import LEVEL, Interval


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean, and the 95 % interval of what ever more runs would average to (Student, Biometrika 6, 1908)."""
    mean = statistics.fmean(values)
    if reason := _why_not(values):
        return Interval(mean, reason=reason)
    return _around(mean, _variance(values), len(values) - 1)


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The difference of the means, second minus first, of runs that may scatter differently (Welch, Biometrika 34,
    1947), and its 95 % interval."""
    difference = statistics.fmean(second) - statistics.fmean(first)
    if reason := _why_not(first, second):
        return Interval(difference, reason=reason)
    one, two = _variance(first), _variance(second)
    freedom = (one + two) ** 2 / (one**2 / (len(first) - 1) + two**2 / (len(second) - 1))
    return _around(difference, one + two, freedom)


def _why_not(*groups: Sequence[float]) -> str:
    """Why there is no interval; empty where there is one."""
    if any(math.isnan(value) for values in groups for value in values):
        return "not there in every run"
    if min(map(len, groups)) < 2:
        return "one run only"
    return "" if any(map(_variance, groups)) else "the runs do not differ"


def _variance(values: Sequence[float]) -> float:
    """Of the mean."""
    return statistics.variance(values) / len(values)


def _around(mean: float, variance: float, freedom: float) -> Interval:
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half)
