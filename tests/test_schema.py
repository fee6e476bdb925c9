"""Limits of what Python itself reads of a configuration."""

from typing import Any

import pytest

from ccnet.errors import ConfigError
from ccnet.schema import EarlyStoppingConfig, LearningRateScaling, RunConfig, TrainerConfig, check_values


def config_of(seed: int = 0, **trainer: Any) -> RunConfig:
    return RunConfig(name="run", seed=seed, trainer=TrainerConfig(max_steps=1, batch_size=1, **trainer))


@pytest.mark.parametrize("seed", [-1, 2**63, 99999999999999999999999])
def test_seeds_beyond_the_generators(seed: int) -> None:
    """Oracle: the documented error; torch takes signed 64 bits."""
    with pytest.raises(ConfigError, match=f"seed must be at least 0 and less than .*, got {seed}$"):
        check_values(config_of(seed))
    check_values(config_of(2**63 - 1))


@pytest.mark.parametrize(
    ("idle", "message", "read"),
    [
        (
            {"early_stopping": EarlyStoppingConfig(metric="nonsense")},
            "early_stopping.metric=nonsense does nothing without a patience; set trainer.early_stopping.patience",
            {"early_stopping": EarlyStoppingConfig(metric="loss", patience=2)},
        ),
        (
            {"early_stopping": EarlyStoppingConfig(min_delta=0.1)},
            "early_stopping.min_delta=0.1 does nothing without a patience; set trainer.early_stopping.patience",
            {"early_stopping": EarlyStoppingConfig(min_delta=0.1, patience=2)},
        ),
        (
            {"lr_batch_size": 16},
            "lr_batch_size=16 does nothing while trainer.lr_scaling is none; set trainer.lr_scaling to linear or sqrt",
            {"lr_batch_size": 16, "lr_scaling": LearningRateScaling.sqrt},
        ),
    ],
)
def test_a_key_that_nothing_reads_is_refused(idle: dict[str, Any], message: str, read: dict[str, Any]) -> None:
    """Oracle: the documented error, which names the key to set; with that it is taken, and so are the defaults."""
    with pytest.raises(ConfigError, match=message):
        check_values(config_of(**idle))
    check_values(config_of(**read))
    check_values(config_of(early_stopping=EarlyStoppingConfig(patience=2), lr_scaling=LearningRateScaling.linear))
    check_values(config_of())
