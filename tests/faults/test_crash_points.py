"""Death at every single call that changes the disk: the run ends as if nothing had happened.

The state after a call is the one before the next, so dying before each, in the middle of each write and after the last
is all there is.
"""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ccnet.schema import RunConfig
from tests.faults.disk import watched
from tests.faults.zygote import Zygote, outcome, train


@dataclass(frozen=True)
class Scene:
    """What happens before, and the paths in the folder of runs whose calls are counted from there on.

    least: calls that there must be at least, so that a test which sees none does not pass.
    """

    prepare: tuple[Callable[..., None], int] | None
    paths: str
    least: int


def train_and_stop_after(config: RunConfig, step: int) -> None:
    """A victim: is asked to stop after a step."""
    from ccnet.training.milestones import Milestones

    after_step = Milestones.__call__

    def stop(self: Any, result: Any) -> None:
        if result.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        after_step(self, result)

    Milestones.__call__ = stop  # type: ignore[method-assign]
    train(config)


def train_and_record(config: RunConfig, paths: str, record: Path) -> None:
    """A victim: writes down the calls up to its end."""
    calls = []
    with watched(Path(config.runs_dir), paths, lambda what, path: calls.append(f"{what} {path}")):
        train(config)
    record.write_text("\n".join(calls))


def train_and_die(config: RunConfig, paths: str, at: int) -> None:
    """A victim: dies before the call with this number."""
    numbers = count()

    def die(_what: str, _path: Path) -> None:
        if next(numbers) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(Path(config.runs_dir), paths, die):
        train(config)


SCENES = {
    "a new run": Scene(None, r"run|latest|run/(environment\.json|config\.yaml|checkpoints).{0,9}", 9),
    "save and rotate": Scene((train_and_stop_after, 6), r"run/checkpoints(/step_000000[57].*)?", 30),
    # A signal during an evaluation leaves a checkpoint without score, which the next process replaces.
    "save the same step again": Scene((train_and_stop_after, 4), r"run/checkpoints(/step_0000004.*)?", 35),
    "scores and report": Scene((train_and_stop_after, 8), r"run/(report.*|metrics\.jsonl)", 15),
}


@pytest.mark.parametrize(
    ("name", "every"),
    [("a new run", 1), ("save and rotate", 1), ("save the same step again", 2), ("scores and report", 4),
     *(pytest.param(name, 1, marks=pytest.mark.long) for name in list(SCENES)[2:])],
)  # fmt: skip
def test_dying_at_any_call_changes_nothing(
    name: str, every: int, zygote: Zygote, config: RunConfig, place: Path, tmp_path: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the outcome of a run that nothing interrupts, and no folder of checkpoints more or less than it has."""
    scene = SCENES[name]
    before, during, record = place / "before", place / "during", tmp_path / "calls.txt"
    before.mkdir()
    if scene.prepare:
        victim, step = scene.prepare
        assert zygote.fork(victim, replace(config, runs_dir=str(before)), step).wait() == 75
    run = replace(config, runs_dir=str(during))
    shutil.copytree(before, during)
    zygote.finish(train_and_record, run, scene.paths, record)
    calls = record.read_text().splitlines()
    print(f"{name}: {len(calls)} calls")
    assert len(calls) >= scene.least
    for number in [*range(0, len(calls), every), len(calls)]:
        call = [*calls, "the end"][number]
        shutil.rmtree(during)
        shutil.copytree(before, during)
        ended = zygote.fork(train_and_die, run, scene.paths, number).wait()
        assert ended == (0 if call == "the end" else -signal.SIGKILL), call
        after = zygote.fork(train, run)
        assert after.wait() == 0, f"killed before {call}; then:\n{after.told()}"
        assert outcome(during / run.name) == reference, f"killed before {call}"
