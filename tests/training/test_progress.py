"""Rates and remaining times under a clock that the test turns."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from ccnet.training import progress
from ccnet.training.progress import LiveLine, Pace, peak_memory


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def train(pace: Pace, clock: Clock, steps: int, seconds: float = 2.0) -> None:
    for _ in range(steps):
        clock.now += seconds
        pace.images += 4
        pace.end_step()


def evaluate(pace: Pace, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    pace.end_evaluation()


def test_time_left_includes_the_evaluations_to_come(clock: Clock) -> None:
    """Oracle: by hand: 2 s a step and 30 s, then 60 s an evaluation, at the steps 4, 8 and 10."""
    pace = Pace(0, 10, evaluate_every=4)
    train(pace, clock, 2)
    assert pace.time_left(2) == ">0:00:16"
    train(pace, clock, 2)
    assert pace.time_left(4) == ">0:00:12"
    evaluate(pace, clock, 30)
    train(pace, clock, 2)
    assert pace.time_left(6) == "0:01:08"
    train(pace, clock, 2)
    evaluate(pace, clock, 60)
    train(pace, clock, 1)
    assert pace.time_left(9) == "0:00:47"
    train(pace, clock, 1)
    assert pace.time_left(10) == "0:00:45"


def test_time_left_of_a_run_that_was_continued(clock: Clock) -> None:
    """Oracle: by hand: 2 s a step of this process, whose evaluation comes before its first step."""
    pace = Pace(4, 10_000, evaluate_every=10_000)
    evaluate(pace, clock, 30)
    train(pace, clock, 6)
    assert pace.time_left(10) == "5:33:30"


@pytest.mark.parametrize(("max_steps", "every"), [(10, 4), (8, 4), (3, 4), (5, 1), (1, 1)])
def test_evaluations_left(max_steps: int, every: int) -> None:
    """Oracle: a loop over the steps to come, each asked whether the run evaluates there."""
    pace = Pace(0, max_steps, every)
    for step in range(1, max_steps + 1):
        left = [s for s in range(step, max_steps + 1) if s % every == 0 or s == max_steps]
        assert pace.evaluations_left(step) == len(left)


def test_rates_leave_evaluations_out(clock: Clock) -> None:
    """Oracle: by hand: an interval of 4 steps of 2 s, in its middle an evaluation; the next one starts from zero."""
    pace = Pace(0, 100, evaluate_every=2)
    train(pace, clock, 2)
    evaluate(pace, clock, 50)
    train(pace, clock, 2)
    assert pace.end_interval() == {"images_per_second": 2.0, "data_wait": 0.0}
    train(pace, clock, 1, seconds=1.0)
    assert pace.end_interval() == {"images_per_second": 4.0, "data_wait": 0.0}


def test_waiting_is_the_time_until_a_batch_arrives(clock: Clock) -> None:
    """Oracle: by hand: 1 s until each of 3 batches, and 3 s for the end, then 3 s a step."""

    def slow() -> Iterator[int]:
        for number in range(3):
            clock.now += 1
            yield number

    pace = Pace(0, 3, evaluate_every=3)
    for number, batch in enumerate(pace.timed(slow())):
        assert batch == number
        train(pace, clock, 1, seconds=3.0)
    assert pace.end_interval()["data_wait"] == 0.25


def test_the_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what a terminal of 60 columns was sent: all figures, nothing cut off, and lines above the bar."""
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=60, highlight=False, markup=False)
    monkeypatch.setattr(progress, "Console", lambda **options: terminal)
    live = LiveLine(0, 9)
    live.progress.start()
    live.step(3)
    live.status(3, " ".join(f"figure{number}" for number in range(12)))
    live.progress.refresh()
    assert all(f"figure{number}" in stream.getvalue() for number in range(12))
    assert "3/9" in stream.getvalue()
    for number in live.evaluating(range(5), 5):
        live.progress.refresh()
        assert "evaluating" in stream.getvalue()
        assert f"{number}/5" in stream.getvalue()
    live.say("a line")
    live.progress.stop()
    assert "a line\n" in stream.getvalue()
    assert [task.description for task in live.progress.tasks] == ["training"]


def test_the_bar_of_an_evaluation_that_stops_early_goes() -> None:
    """Oracle: the bars that are left."""
    live = LiveLine(0, 9)
    batches = live.evaluating(range(5), 5)
    for _ in batches:
        break
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert [task.description for task in live.progress.tasks] == ["training"]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Oracle of Linux")
def test_peak_memory_is_that_of_the_system() -> None:
    """Oracle: the kernel's own high-water mark of the resident set."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert peak_memory(torch.device("cpu")) == pytest.approx(peak / 2**20, rel=0.02)


@pytest.mark.parametrize(("platform", "expected"), [("win32", None), ("darwin", 3 / 2**20), ("linux", 3 / 2**10)])
def test_peak_memory_elsewhere(platform: str, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: getrusage(2): 3072 bytes on macOS, KiB on Linux; Windows has no such module."""
    fake = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_maxrss=3072), RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", fake if platform != "win32" else None)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(platform=platform))
    assert peak_memory(torch.device("cpu")) == expected


def test_peak_memory_of_cuda_is_that_of_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: torch's own count for that device."""
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**31 if device.index == 1 else 0)
    assert peak_memory(torch.device("cuda", 1)) == 2.0
