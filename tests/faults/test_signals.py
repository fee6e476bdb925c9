"""Signals: the run stops between two steps, saved; the same command goes on as if nothing had happened."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ccnet import checkpoint
from ccnet.schema import RunConfig
from ccnet.training.signals import EXIT_STATUS
from tests.faults.interruptions import (
    before,
    ends,
    signalled,
    signalled_twice,
    sleeping,
    train_after,
    wait_until,
)
from tests.faults.zygote import Victim, Zygote, outcome, run_config

# Step 4 is evaluated, in vain, and evaluated in vain again by the process that makes up for it; step 6 is saved anyway.
STOPS = [("step", 2), ("evaluation", 4), ("evaluation", 4), ("save", 6)]
SHORT = [("SIGUSR1", False, 0), ("SIGINT", True, 2)]


def kinds() -> Iterator[Any]:
    """Signal, whether to the whole group, and workers; what differs little is left to the long form."""
    for name, group, workers in product(EXIT_STATUS, (False, True), (0, 2)):
        marks = [] if name == "SIGTERM" or (name, group, workers) in SHORT else [pytest.mark.long]
        yield pytest.param(name, group, workers, marks=marks, id=f"{name}-{'group' if group else 'process'}-{workers}")


@pytest.mark.parametrize(("name", "group", "workers"), list(kinds()))
def test_a_run_stopped_by_signals_is_the_same(
    name: str, group: bool, workers: int, zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the exit status; the message and a checkpoint of that very step, without the score of the evaluation that
    was cut short; no process left of the group; at last, the outcome of a run that nothing interrupts."""
    config = run_config(data, place, "trainer.save_every=6", f"trainer.workers={workers}")
    folder = place / "run" / "checkpoints"
    for moment, step in STOPS:
        prepare = partial(signalled, config, moment, step, signal.Signals[name], group)
        victim = zygote.fork(train_after, config, prepare)
        assert ends(victim) == [EXIT_STATUS[name]], victim.told()
        told = f"stopped by {name} at step {step}, which is saved in {folder}; the same command continues"
        assert told in victim.told().splitlines()
        found = checkpoint.newest(folder)
        assert found is not None
        assert (found.step, found.score) == (step, None)
    last = zygote.fork(train_after, config)
    assert ends(last) == [0], last.told()
    assert "continues at step 6" in last.told()
    assert {**outcome(place / "run"), "checkpoints": reference["checkpoints"]} == reference


@pytest.mark.parametrize(
    ("stops", "workers"), [(5, 0), *(pytest.param(100, n, marks=pytest.mark.long) for n in (0, 2))]
)
def test_signals_at_random_times(
    stops: int, workers: int, zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the exit status: that of a stop; or the signal's own effect, before and after training. The outcome is
    that of a run that nothing interrupts; no process is left."""
    rng, config = random.Random(0), run_config(data, place, f"trainer.workers={workers}")
    begin = time.perf_counter()
    zygote.finish(train_after, replace(config, name="measured"))
    duration = time.perf_counter() - begin
    seen: Counter[str] = Counter()
    runs = 0
    while seen["stopped"] < stops:
        run = replace(config, name=f"run{runs}")
        while seen["stopped"] < stops:
            assert seen.total() < 20 * stops, seen
            name, victim = rng.choice(list(EXIT_STATUS)), zygote.fork(train_after, run)
            if not sent_within(rng.uniform(0.1, 1) * duration, victim, name, rng.choice([os.kill, os.killpg])):
                assert ends(victim) == [0], victim.told()
                duration *= 0.9  # the machine was busier when it was measured
                break
            seen[how_it_ended(victim, name)] += 1
        zygote.finish(train_after, run)
        assert outcome(place / run.name) == reference
        shutil.rmtree(place / run.name)
        runs += 1
    print(f"{dict(seen)} in {runs} runs")


def sent_within(seconds: float, victim: Victim, name: str, send: Callable[[int, int], None]) -> bool:
    """Whether a signal could be sent then; not where the victim had come to its end."""
    victim.process.join(seconds)
    if victim.process.exitcode is not None:
        return False
    send(victim.pid, signal.Signals[name])
    return True


def how_it_ended(victim: Victim, name: str) -> str:
    """After a signal: the run stopped or was not in training, or was finished."""
    (status,) = ends(victim)
    if status == EXIT_STATUS[name] and f"stopped by {name} at step" in victim.told():
        return "stopped"
    # Python makes an exception of SIGINT, of which OmegaConf may make another one.
    others = (1, 2, 130) if name == "SIGINT" else ()
    assert status in (0, -signal.Signals[name], *others), victim.told()
    return "finished" if status == 0 else "not in training"


@pytest.mark.parametrize(
    ("first", "second", "moment"),
    [
        ("SIGTERM", "SIGTERM", "step"),
        ("SIGUSR1", "SIGINT", "evaluation"),
        pytest.param("SIGINT", "SIGTERM", "step", marks=pytest.mark.long),
    ],
)
def test_a_second_signal_ends_at_once(
    first: str, second: str, moment: str, zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the second signal's own effect on a process that would never come to the end of its step; workers go
    with it; the run goes on from the last checkpoint."""
    config = run_config(data, place, "trainer.workers=2")
    victim = zygote.fork(train_after, config, partial(sleeping, config, moment, 3))
    wait_until(lambda: "sleeping" in victim.told(), victim)
    os.killpg(victim.pid, signal.Signals[first])
    wait_until(lambda: f"noting {signal.Signals[first]}" in victim.told(), victim)
    time.sleep(1.2)  # what follows at once is a launcher's
    assert victim.process.exitcode is None
    os.killpg(victim.pid, signal.Signals[second])
    assert ends(victim) == [-signal.Signals[second]]
    zygote.finish(train_after, config)
    assert outcome(place / "run") == reference


def test_a_signal_that_a_launcher_repeats_is_one(zygote: Zygote, config: RunConfig) -> None:
    """Oracle: the exit status: torchrun passes on to its ranks what a batch system has sent to all of them."""
    prepare = partial(signalled_twice, config, "evaluation", 4, signal.SIGTERM)
    victim = zygote.fork(train_after, config, prepare)
    assert ends(victim) == [75]
    assert "stopped by SIGTERM at step 4" in victim.told()


def preparing() -> None:
    """Preparing the data takes for ever."""
    from ccnet import build

    def sleep(_: RunConfig) -> None:
        print("sleeping", flush=True)
        time.sleep(1000)

    before(build, "prepare_dataset", sleep)


@pytest.mark.parametrize("name", EXIT_STATUS)
def test_a_signal_before_training_ends_the_process(
    name: str, zygote: Zygote, config: RunConfig, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the signal's own effect, and for SIGINT, of which Python makes an exception, a shell's status of it; the
    same command then begins."""
    victim = zygote.fork(train_after, config, preparing)
    wait_until(lambda: "sleeping" in victim.told(), victim)
    os.kill(victim.pid, signal.Signals[name])
    (status,) = ends(victim)
    assert status == (130 if name == "SIGINT" else -signal.Signals[name]), victim.told()
    assert "begins" in zygote.finish(train_after, config)
    assert outcome(place / "run") == reference
