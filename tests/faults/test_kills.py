"""SIGKILL at any moment, as often as it likes: the run ends as if nothing had happened."""

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet.sealed_folder import ASIDE
from tests.faults.zygote import Zygote, outcome, run_config, train

KILLS = 200


@pytest.mark.parametrize("kills", [KILLS, pytest.param(1000, marks=pytest.mark.long)])
def test_killed_runs_end_as_if_nothing_had_happened(kills: int, zygote: Zygote, data: Path, place: Path) -> None:
    """Oracle: hashes of all tensors, the state of all parts, all rows of losses and scores and the report of a run that
    nothing interrupts. Runs are killed and continued until they end, until there were enough kills."""
    config = run_config(data, place, "trainer.max_steps=16")  # the beginning alone takes as long as eight steps
    begin = time.perf_counter()
    zygote.finish(train, config)
    duration = time.perf_counter() - begin
    reference = outcome(place / config.name)
    rng = random.Random(0)
    killed = finished = in_save = 0
    reached = set()
    while killed < kills:
        run = replace(config, name=f"run{finished}")
        while killed < kills and zygote.fork(train, run).kill_after(rng.uniform(0, 0.75 * duration)):
            killed += 1
            reached |= {path.name for path in (place / run.name).glob("checkpoints/step_*")}
            in_save += any((place / run.name).glob(f"checkpoints/*{ASIDE}"))
        zygote.finish(train, run)
        assert outcome(place / run.name) == reference, f"run {finished}, after {killed} kills"
        shutil.rmtree(place / run.name)
        finished += 1
    print(f"{killed} kills, {in_save} of them while a checkpoint was written or deleted, in {finished} runs")
    assert len(reached) > 5  # not all of them died before their first step
