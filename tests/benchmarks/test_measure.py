"""The harness, on a clock that only the measured calls move."""

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from ccnet.benchmarks import measure
from ccnet.benchmarks.measure import Measured, Row, collector_off, compare, interleaved, once, run, summary, threads


class Clock:
    """Stands in for the module `time`: processor time passes as calls say, wall time twice as fast."""

    def __init__(self) -> None:
        self.processor = 0.0

    def process_time(self) -> float:
        return self.processor

    def perf_counter(self) -> float:
        return 2 * self.processor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still between calls."""
    fake = Clock()
    monkeypatch.setattr(measure, "time", fake)
    return fake


def costing(clock: Clock, calls: list[str], name: str, seconds: float) -> Callable[[], None]:
    """A call of a known cost that notes its name."""

    def call() -> None:
        calls.append(name)
        clock.processor += seconds

    return call


def test_variants_take_turns_and_are_timed_each(clock: Clock) -> None:
    """Oracle: the order of the calls, and their costs, which the clock was told."""
    calls: list[str] = []
    costs = {"a": 1.0, "b": 2.0, "c": 0.5}
    variants = {name: costing(clock, calls, name, cost) for name, cost in costs.items()}
    samples = interleaved(variants, seconds=1e9, max_rounds=8)
    assert calls[:3] == ["a", "b", "c"]  # the warm-up
    rounds = [tuple(calls[start : start + 3]) for start in range(3, len(calls), 3)]
    assert len(rounds) == 8
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 2
    for name, cost in costs.items():
        assert samples[name].time == [cost] * 8
        assert samples[name].wall == [2 * cost] * 8


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 3), (25.0, 5), (1e9, 25)])
def test_rounds_follow_the_time_there_is(clock: Clock, seconds: float, rounds: int) -> None:
    """Oracle: by hand; a round takes 6 s of wall time, none begins after the end, and 3 to 25 are made."""
    variants = {name: costing(clock, [], name, cost) for name, cost in (("a", 1.0), ("b", 2.0))}
    samples = interleaved(variants, seconds=seconds)
    assert {name: len(each.time) for name, each in samples.items()} == {"a": rounds, "b": rounds}


def test_several_calls_per_sample_and_a_single_one(clock: Clock) -> None:
    """Oracle: the number of calls; the time is that of one."""
    calls: list[str] = []
    call = costing(clock, calls, "a", 0.25)
    assert interleaved({"a": call}, seconds=0, calls=4)["a"].time == [0.25] * 3
    assert len(calls) == 1 + 3 * 4
    assert once(call).time == [0.25]
    assert len(calls) == 14


def test_on_cuda_time_is_that_of_the_device(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: work that is only done when the device is waited for counts for the call that started it."""
    pending = [0.0]

    def synchronize() -> None:
        clock.processor += pending[0]
        pending[0] = 0.0

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    started = {name: lambda cost=cost: pending.__setitem__(0, cost) for name, cost in (("a", 1.0), ("b", 3.0))}
    samples = interleaved(started, seconds=0, device="cuda")
    assert samples["a"].time == [2.0] * 3  # wall time, twice as fast
    assert samples["b"].time == [6.0] * 3


def test_the_garbage_collector_rests_while_timed() -> None:
    """Oracle: gc's own state, before, within, after, and after an error."""
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, seconds=0)
    assert seen == [True, False, False, False]
    assert gc.isenabled()
    with pytest.raises(KeyError), collector_off():
        raise KeyError
    assert gc.isenabled()


def test_threads_are_given_back() -> None:
    """Oracle: PyTorch's count."""
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("samples", [[3.0], [1.0, 2.0], [5.0, 1.0, 2.0, 8.0], list(np.linspace(0, 1, 9) ** 2)])
def test_summary(samples: list[float]) -> None:
    """Oracle: NumPy's median and percentiles."""
    lower, upper = np.percentile(samples, [25, 75])
    made = summary(samples)
    assert made.value == np.median(samples)
    assert made.spread == pytest.approx((upper - lower) / 2)
    assert made.rounds == len(samples)


def test_a_ratio_above_one_is_better_and_roles_only_inform() -> None:
    """Oracle: by hand; half the time is 2.0, and what has a role has another metric."""
    values = {"peer": Measured(4.0), "ours": Measured(2.0), "other": Measured(8.0)}
    rows = list(compare("demo", "case", "time", values, "peer", {"other": "floor"}))
    assert rows == [
        Row("demo", "case", "ours", "peer", "time", Measured(2.0), Measured(4.0)),
        Row("demo", "case", "other", "peer", "time (floor)", Measured(8.0), Measured(4.0)),
    ]
    assert [row.ratio for row in rows] == [2.0, 0.5]


def test_steps_run_in_order_and_say_so(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the rows, and the lines, written out; the clock runs while a step does."""
    rows = [Row("demo", str(number), "ours", "peer", "time", Measured(1.0), Measured(1.0)) for number in range(3)]

    def step(*own: Row) -> Iterator[Row]:
        clock.processor += 33.5
        yield from own

    steps = [("one", lambda: step(*rows[:2])), ("two", step), ("three", lambda: step(rows[2]))]
    assert list(run(steps)) == rows
    assert capsys.readouterr().err.splitlines() == ["[1/3, 0:00] one", "[2/3, 1:07] two", "[3/3, 2:14] three"]
