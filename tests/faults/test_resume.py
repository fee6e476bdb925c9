"""A run that stops after any step goes on as if it had not."""

from pathlib import Path
from typing import Any

import pytest

from ccnet.schema import RunConfig
from tests.faults.test_crash_points import train_and_stop_after
from tests.faults.zygote import MAX_STEPS, Zygote, outcome, run_config, train

Known = dict[tuple[str, ...], dict[str, Any]]
KINDS: dict[str, list[str]] = {
    "fp32": [],
    "bf16": ["trainer.precision=bf16"],
    "sgd in parts": ["optimizer=sgd", "schedule=poly", "trainer.accumulation=2", "trainer.ema_decay=null"],
    # fp16 begins with a scale that has to fall, and the phases change while it does.
    "fp16 in phases, norms frozen": [
        "trainer.precision=fp16",
        "trainer.freeze_norms=true",
        "phases=[{train:[head.*],steps:3},{train:[head.*,backbone.stages.3.*],steps:2},{lr:0.0003}]",
    ],
}
# No gain is large enough: the evaluations after steps 4 and 6 wait in vain for more than the one after step 2.
STOPS_AT_6 = ["trainer.evaluate_every=2", "trainer.early_stopping.patience=2", "trainer.early_stopping.min_delta=1.0"]


@pytest.fixture(scope="module")
def known() -> Known:
    """Outcomes of runs that nothing interrupts."""
    return {}


def without_saves(data: Path, runs: Path, *overrides: str) -> RunConfig:
    """Nothing is saved but where the run stops, and at its end."""
    return run_config(data, runs, "trainer.save_every=100", "trainer.evaluate_every=100", *overrides)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_after_any_step(kind: str, zygote: Zygote, data: Path, place: Path, known: Known) -> None:
    """Oracle: the outcome of a run that nothing interrupts; another kind of arithmetic has another."""
    reference = uninterrupted(known, zygote, data, place, *KINDS[kind])
    for step in range(1, MAX_STEPS):
        config = without_saves(data, place / str(step), *KINDS[kind])
        assert zygote.fork(train_and_stop_after, config, step).wait() == 75
        assert f"continues at step {step}:" in zygote.finish(train, config)
        found = outcome(Path(config.runs_dir) / "run")
        assert {**found, "checkpoints": found["checkpoints"][-1:]} == reference, step


@pytest.mark.parametrize("step", [3, 7])
def test_the_number_of_workers_does_not_matter(
    step: int, zygote: Zygote, data: Path, place: Path, known: Known
) -> None:
    """Oracle: the outcome of a run without workers that nothing interrupts."""
    reference = uninterrupted(known, zygote, data, place)
    config = without_saves(data, place / "workers", "trainer.workers=2")
    assert zygote.fork(train_and_stop_after, config, step).wait() == 75
    zygote.finish(train, config)
    found = outcome(Path(config.runs_dir) / "run")
    assert {**found, "checkpoints": found["checkpoints"][-1:]} == reference


def test_a_run_that_stops_after_every_step_is_the_same(zygote: Zygote, data: Path, place: Path, known: Known) -> None:
    """Oracle: the outcome of a run that nothing interrupts."""
    reference = uninterrupted(known, zygote, data, place)
    config = without_saves(data, place / "stops")
    for step in range(1, MAX_STEPS):
        assert zygote.fork(train_and_stop_after, config, step).wait() == 75
    zygote.finish(train, config)
    found = outcome(Path(config.runs_dir) / "run")
    assert {**found, "checkpoints": found["checkpoints"][-1:]} == reference


def test_early_stopping_remembers(zygote: Zygote, data: Path, place: Path, known: Known) -> None:
    """Oracle: the outcome of a run that nothing interrupts, which ends after step 6 of 8."""
    reference = uninterrupted(known, zygote, data, place, *STOPS_AT_6)
    assert reference["checkpoints"][-1] == "step_0000006"
    for step in range(1, 7):
        config = without_saves(data, place / str(step), *STOPS_AT_6)
        assert zygote.fork(train_and_stop_after, config, step).wait() == 75
        zygote.finish(train, config)
        found = outcome(Path(config.runs_dir) / "run")
        assert {**found, "checkpoints": found["checkpoints"][-1:]} == {
            **reference,
            "checkpoints": reference["checkpoints"][-1:],
        }, step


def uninterrupted(known: Known, zygote: Zygote, data: Path, place: Path, *overrides: str) -> dict[str, Any]:
    """The outcome of a run of its own, made once."""
    if overrides not in known:
        zygote.finish(train, without_saves(data, place / "whole", *overrides))
        known[overrides] = outcome(place / "whole" / "run")
    return known[overrides]
