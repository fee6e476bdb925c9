"""The harness of all benchmarks: variants timed in turn in one process, and rows that compare them with a baseline.

A ratio is that of the medians, baseline / variant: above 1 the variant is better. As variants take turns in every
round, a slow minute of the machine falls on all of them, and a row's ratio can be recomputed from its two values.
"""

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Measured:
    """A value in s, bytes or operations; of samples their median and, in `spread`, half the interquartile range."""

    value: float
    spread: float = 0.0
    rounds: int = 1


@dataclass(frozen=True)
class Row:
    """A variant against its baseline.

    `time` (s) and `memory` (bytes) are measured metrics: all rows of them in a case share one baseline, the peer, and
    their variants are ours. Other words, such as `saved`, `wall` or `time (floor)`, mark rows that inform.
    """

    benchmark: str
    case: str
    variant: str
    baseline: str
    metric: str
    measured: Measured
    baseline_measured: Measured

    @property
    def ratio(self) -> float:
        """Above 1 is better than the baseline.

        Raises:
            ZeroDivisionError: the variant was measured as 0.
        """
        return self.baseline_measured.value / self.measured.value


@dataclass
class Samples:
    """Seconds of one call, round by round: processor time (on CUDA: time until the device is done), and wall time."""

    time: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    seconds: float,
    *,
    device: str = "cpu",
    calls: int = 1,
    min_rounds: int = 3,
    max_rounds: int = 25,
) -> dict[str, Samples]:
    """Calls each variant once to warm up, then all of them in every round, in an order that changes.

    Args:
        variants: what to call, by name.
        seconds: no further round begins after this wall time (warm-up not counted); `min_rounds` go before.
        device: "cpu" counts the time of all threads of this process, which neighbours on the machine hardly
            change; "cuda" the time from an idle device to an idle device.
        calls: calls per sample, where one is too short to be timed.
        min_rounds, max_rounds: bounds on the rounds.

    Returns:
        Per variant as many samples as rounds.
    """
    samples = {name: Samples() for name in variants}
    for function in variants.values():
        function()
    order = list(variants)
    shuffle = random.Random(0).shuffle
    end = time.perf_counter() + seconds
    with collector_off():
        for done in range(max_rounds):
            if done >= min_rounds and time.perf_counter() >= end:
                break
            shuffle(order)
            for name in order:
                _sample(variants[name], samples[name], device, calls)
    return samples


def once(function: Callable[[], object], device: str = "cpu") -> Samples:
    """A single call without warm-up: for what is so slow that a rough figure says all."""
    samples = Samples()
    with collector_off():
        _sample(function, samples, device, calls=1)
    return samples


def _sample(function: Callable[[], object], samples: Samples, device: str, calls: int) -> None:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    wait()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    samples.wall.append(wall / calls)
    samples.time.append((wall if device == "cuda" else processor) / calls)


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection within, so that none falls on a variant by chance."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch computes with this many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def summary(samples: Sequence[float]) -> Measured:
    """Median and half the interquartile range of one or more samples."""
    spread = 0.0
    if len(samples) > 1:
        lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
        spread = (upper - lower) / 2
    return Measured(statistics.median(samples), spread, len(samples))


def compare(
    benchmark: str,
    case: str,
    metric: str,
    measured: Mapping[str, Measured],
    baseline: str,
    roles: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """One row per variant but the baseline.

    Args:
        benchmark, case, metric: columns of the rows.
        measured: all variants, the baseline among them.
        baseline: the peer.
        roles: variants that are not ours or that are known to lose, with the word that says so: their metric becomes
            "time (word)".
    """
    for variant, value in measured.items():
        if variant != baseline:
            role = (roles or {}).get(variant)
            word = f"{metric} ({role})" if role else metric
            yield Row(benchmark, case, variant, baseline, word, value, measured[baseline])


Step = tuple[str, Callable[[], Iterator[Row]]]


def run(steps: Sequence[Step]) -> Iterator[Row]:
    """The rows of named steps, one after the other; stderr says which runs, of how many, and the time so far."""
    begin = time.perf_counter()
    for index, (name, step) in enumerate(steps, start=1):
        minutes, seconds = divmod(int(time.perf_counter() - begin), 60)
        print(f"[{index}/{len(steps)}, {minutes}:{seconds:02d}] {name}", file=sys.stderr, flush=True)
        yield from step()
