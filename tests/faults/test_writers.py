"""Two processes that want the same run folder."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ccnet.schema import RunConfig
from tests.faults.zygote import Victim, Zygote, outcome, train


def train_and_pause(config: RunConfig, go_on: Path) -> None:
    """A victim: waits in the middle of its first evaluation until a file is there."""
    from ccnet.evaluation.evaluator import Evaluator

    evaluate = Evaluator.__call__

    def pause(self: Any, model: Any) -> Any:
        print("pausing", flush=True)
        while not go_on.exists():
            time.sleep(0.01)
        return evaluate(self, model)

    Evaluator.__call__ = pause  # type: ignore[method-assign]
    train(config)


def train_without_patience(config: RunConfig) -> None:
    """A victim: does not wait for a killed run's data workers."""
    from ccnet import run

    run.WAIT_SECONDS = 0.1
    train(config)


def wait_for(victim: Victim, words: str) -> None:
    """Until it has told something."""
    for _ in range(6000):
        if words in victim.told():
            return
        time.sleep(0.01)
    pytest.fail(f"{words} is not in: {victim.told()}")


def test_the_second_writer_is_refused(
    zygote: Zygote, config: RunConfig, place: Path, tmp_path: Path, reference: dict[str, Any]
) -> None:
    """Oracle: status 2 and one line with the folder and the first process's number; the outcome of the first one is
    that of a run alone, and once it has ended the folder is free."""
    first = zygote.fork(train_and_pause, config, tmp_path / "go")
    wait_for(first, "pausing")
    before = {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")}
    second = zygote.fork(train_without_patience, config)
    assert second.wait() == 2
    line = second.told().splitlines()[-1]
    assert line.startswith(f"error: another process ({first.pid} on ")
    assert f"writes into {place / 'run'}; wait for it, or give this run another name=" in line
    assert {path: path.stat().st_mtime_ns for path in (place / "run").rglob("*")} == before
    (tmp_path / "go").touch()
    assert first.wait() == 0
    assert outcome(place / "run") == reference
    assert "is finished" in zygote.finish(train_without_patience, config)


def test_a_killed_writer_leaves_no_lock(
    zygote: Zygote, config: RunConfig, place: Path, tmp_path: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the next process, which has no patience, goes on at once."""
    first = zygote.fork(train_and_pause, config, tmp_path / "go")
    wait_for(first, "pausing")
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert "is in use" not in zygote.finish(train_without_patience, config)
    assert outcome(place / "run") == reference


def test_of_many_writers_one_writes(zygote: Zygote, config: RunConfig, place: Path, reference: dict[str, Any]) -> None:
    """Oracle: of processes that begin together each ends well or is refused, and the outcome is that of one alone."""
    victims = [zygote.fork(train_without_patience, config) for _ in range(4)]
    ends = [victim.wait() for victim in victims]
    assert set(ends) <= {0, 2}, [victim.told() for victim in victims]
    assert 0 in ends
    assert outcome(place / "run") == reference
