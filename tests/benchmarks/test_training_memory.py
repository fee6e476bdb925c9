"""The estimate of a training step's memory against what the process really takes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from ccnet.benchmarks import training_memory
from ccnet.benchmarks.measure import Row
from ccnet.benchmarks.memory import Call, can_measure_peak, peak_memory
from ccnet.benchmarks.training_memory import AllocatedBytes, StepMemory, build_step, estimate, rows
from ccnet.config import compose_config, differing_keys
from ccnet.schema import RunConfig

SMALL = ["backbone=resnet18", "head=rcca", "head.channels=64", "optimizer=sgd", "loss.auxiliary_weight=0.4",
         "auxiliary_head.channels=64", "trainer.batch_size=8", "trainer.channels_last=false"]  # fmt: skip


def config_of(size: int, *overrides: str) -> RunConfig:
    """A small run whose steps still take memory of every kind."""
    return compose_config([*SMALL, f"augmentation.crop_size=[{size},{size}]", *overrides])


def real_step(size: int, *overrides: str) -> Call:
    """A step of the same loop with data, once the optimizer has its state."""
    trainer, batches = build_step(config_of(size, *overrides))
    trainer.fit(batches)
    return partial(trainer.fit, batches)


@pytest.mark.skipif(not can_measure_peak(), reason="peak memory of the CPU needs Linux with glibc")
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["trainer.activation_checkpointing=true", "trainer.accumulation=2"], marks=pytest.mark.long),
        pytest.param(["trainer.precision=bf16", "trainer.channels_last=true"], marks=pytest.mark.long),
    ],
    ids=["plain", "switches", "bf16"],
)
def test_the_estimate_is_what_a_step_takes(overrides: list[str]) -> None:
    """Oracle: the resident memory of a child process in which the loop really trains, within 10 %."""
    found = estimate(config_of(129, *overrides))
    real = peak_memory(partial(real_step, 129, *overrides), partial(real_step, 33, *overrides))
    assert found.peak - found.held == pytest.approx(real, rel=0.1)


def test_what_is_held_is_weights_gradients_and_momentum() -> None:
    """Oracle: by hand from the model: three times its parameters, twice its buffers, of which none is kept."""
    config = config_of(65)
    trainer, (batch,) = build_step(config)
    parameters = sum(each.nbytes for each in trainer.model.parameters())
    buffers = sum(each.nbytes for each in trainer.model.buffers())
    expected = 3 * parameters + buffers + batch["image"].nbytes + batch["mask"].nbytes
    assert estimate(config).held == pytest.approx(expected, rel=0.001)


def test_each_switch_lowers_the_peak() -> None:
    """Oracle: the order of the estimates."""
    plain = estimate(config_of(129)).peak
    for switch in ("precision=bf16", "accumulation=2", "activation_checkpointing=true"):
        assert estimate(config_of(129, f"trainer.{switch}")).peak < 0.9 * plain, switch
    assert estimate(config_of(129, "trainer.precision=fp16")) == estimate(config_of(129, "trainer.precision=bf16"))


def test_storages_are_counted_once_and_while_they_live() -> None:
    """Oracle: by hand; a view is no memory, and what is freed is gone."""
    with AllocatedBytes() as allocated:
        first = torch.empty(1000, dtype=torch.uint8)
        view = first[10:].view(torch.int8)
        second = first + 1
        assert (allocated.now, allocated.peak) == (2000, 2000)
        del first
        assert allocated.now == 2000
        del view, second
        assert (allocated.now, allocated.peak) == (0, 2000)


def test_the_recipe_for_8_gb_is_the_recipe() -> None:
    """Oracle: the keys that may differ."""
    configs = [compose_config([f"+experiment={name}"]) for name in ("cityscapes_r2_ohem", "cityscapes_r2_ohem_8gb")]
    keys = [line.partition(":")[0] for line in differing_keys(*configs)]
    assert keys == ["name", "trainer.accumulation", "trainer.activation_checkpointing"]


@pytest.mark.long
def test_the_recipe_for_8_gb_fits() -> None:
    """Oracle: 8 GB less 1 GiB for CUDA and its allocator; with one switch less it does not fit."""
    config = compose_config(["+experiment=cityscapes_r2_ohem_8gb"])
    room = 8 * 10**9 - 2**30
    assert estimate(config).peak < room
    for switch in ({"accumulation": 1}, {"activation_checkpointing": False}):
        assert estimate(replace(config, trainer=replace(config.trainer, **switch))).peak > room


@pytest.mark.parametrize("quick", [True, False])
def test_rows(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what the switches change, by hand; a switch that an experiment has already is no row."""
    asked: list[tuple[Any, ...]] = []

    def remember(config: RunConfig) -> StepMemory:
        settings = config.trainer
        asked.append((settings.precision, settings.accumulation, settings.activation_checkpointing))
        return StepMemory(1, len(asked))

    monkeypatch.setattr(training_memory, "estimate", remember)
    found: Iterator[Row] = rows(quick)
    cases: dict[str, list[str]] = {}
    for row in found:
        assert (row.benchmark, row.baseline, row.metric) == ("training_memory", "as it is", "memory (in all)")
        cases.setdefault(row.case, []).append(row.variant)
    assert cases["cityscapes_r2_ohem_8gb, 8 images of 769x769"] == ["fp32", "accumulation=4", "no checkpointing"]
    assert ("cityscapes_r2_ohem, 8 images of 769x769" in cases) is not quick
    assert ("bf16", 2, True) in asked
    assert ("bf16", 4, True) in asked
