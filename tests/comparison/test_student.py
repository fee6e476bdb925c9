"""Intervals over runs against SciPy's statistics and printed tables."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ccnet.comparison.student import mean_interval, welch_interval
from ccnet.evaluation.bootstrap import Interval

scores = st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda values: np.std(values) > 1e-6)


def test_three_runs_by_hand() -> None:
    """Oracle: t(0.975, 2) = 4.3027 of the printed table; the paper's three runs scatter by 0.01 about 0.78."""
    found = mean_interval([0.77, 0.78, 0.79])
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert [found.value, found.low, found.high] == pytest.approx([0.78, 0.78 - half, 0.78 + half], abs=1e-8)


def test_welch_by_hand() -> None:
    """Oracle: two groups of three that scatter alike have four degrees of freedom: t(0.975, 4) = 2.7764."""
    found = welch_interval([0.77, 0.78, 0.79], [0.80, 0.81, 0.82])
    half = 2.776445 * 0.01 * math.sqrt(2 / 3)
    assert [found.value, found.low, found.high] == pytest.approx([0.03, 0.03 - half, 0.03 + half], abs=1e-8)
    assert found.excludes_zero


@settings(max_examples=40)
@given(values=scores)
def test_the_mean_is_that_of_scipy(values: list[float]) -> None:
    """Oracle: scipy.stats.t.interval with the standard error."""
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    found = mean_interval(values)
    assert found.value == pytest.approx(statistics.fmean(values))
    assert [found.low, found.high] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=40)
@given(first=scores, second=scores)
def test_the_difference_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    """Oracle: the confidence interval of scipy.stats.ttest_ind with equal_var=False."""
    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    found = welch_interval(first, second)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], rel=1e-9, abs=1e-9)


def test_one_group_may_not_scatter() -> None:
    """Oracle: with all variance in one group of three, the degrees of freedom are its own two."""
    found, alone = welch_interval([0.5, 0.5, 0.5, 0.5], [0.6, 0.7, 0.8]), mean_interval([0.6, 0.7, 0.8])
    assert [found.low, found.high] == pytest.approx([alone.low - 0.5, alone.high - 0.5])


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([0.5], [0.6, 0.7], "one run only"),
        ([0.5, 0.6], [0.6], "one run only"),
        ([0.5, 0.5], [0.6, 0.6], "the runs do not differ"),
        ([0.5, math.nan], [0.6, 0.7], "not there in every run"),
        ([0.5, 0.6], [math.nan, math.nan], "not there in every run"),
    ],
)
def test_what_has_no_interval(first: list[float], second: list[float], reason: str) -> None:
    """Oracle: the reason, and no ends."""
    found = welch_interval(first, second)
    assert (found.low, found.high, found.reason, found.excludes_zero) == (None, None, reason, False)


def test_a_group_that_has_no_interval() -> None:
    """Oracle: the value, and the reason."""
    assert mean_interval([0.5]) == Interval(0.5, None, None, "one run only")
    assert mean_interval([0.0, 0.0]) == Interval(0.0, None, None, "the runs do not differ")
    assert mean_interval([math.nan, 0.5]).reason == "not there in every run"
