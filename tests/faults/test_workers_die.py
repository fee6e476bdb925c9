"""Data workers that die or hang, and memory that runs out: one line, nobody left, and the same command goes on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.interruptions import (
    Preparation,
    ends,
    train_after,
    with_a_hanging_item,
    without_memory,
    without_workers,
)
from tests.faults.zygote import Zygote, outcome, run_config

HANG = ["trainer.worker_timeout=2"]
FAULTS: dict[str, tuple[list[str], Any, str]] = {
    "killed in training": ([], ("step", 3), r"a data worker died (SIGKILL); most often memory"),
    "killed in evaluation": ([], ("evaluation", 4), r"a data worker died (SIGKILL); most often memory"),
    "hangs in training": (HANG, ("train", 4), "a data worker gave nothing for 2 s; raise trainer.worker_timeout"),
    "hangs in evaluation": (HANG, ("val", 1), "a data worker gave nothing for 2 s; raise trainer.worker_timeout"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_workers_that_fail_end_the_run_and_lose_nothing(
    name: str, zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: status 2 and one line that names what was to be read; no process left; then the outcome of a run that
    nothing interrupts."""
    overrides, fault, words = FAULTS[name]
    config = run_config(data, place, "trainer.workers=2", *overrides)
    prepare: Preparation = (
        partial(with_a_hanging_item, *fault) if overrides else partial(without_workers, config, *fault)
    )
    victim = zygote.fork(train_after, config, prepare)
    assert ends(victim) == [2], victim.told()
    line = victim.told().splitlines()[-1]
    assert line.startswith(f"error: {words}")
    assert str(data / "images" / ("val" if "evaluation" in name else "train")) in line
    told = zygote.finish(train_after, run_config(data, place, "trainer.workers=2"))
    assert "continues at step" in told
    assert outcome(place / "run") == reference


def test_want_of_memory_names_the_keys_and_loses_nothing(
    zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: status 2, one line with the size that was asked for and each key that lowers it with its value; then the
    outcome of a run that nothing interrupts."""
    config = run_config(data, place)
    victim = zygote.fork(train_after, config, partial(without_memory, 5))
    assert ends(victim) == [2], victim.told()
    line = victim.told().splitlines()[-1]
    assert line.startswith("error: training ran out of memory: 2.50 GiB more were asked for; lower it by ")
    for key in (
        "trainer.accumulation=2 (now 1: 2 images at a time)",
        "trainer.batch_size (now 2)",
        "trainer.activation_checkpointing=true",
        "trainer.precision=bf16",
        "augmentation.crop_size (now 24x32)",
    ):
        assert key in line
    assert "continues at step 4" in zygote.finish(train_after, config)
    assert outcome(place / "run") == reference
