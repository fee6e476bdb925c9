"""Limits of what Python itself reads of a configuration."""

import inspect
from dataclasses import fields
from typing import Any, get_args

import pytest

from ccnet.config import compose_config
from ccnet.errors import ConfigError
from ccnet.models.attention.forms import Kind, Preset
from ccnet.models.attention.insertion import Mode, insert_attention
from ccnet.schema import (
    AttentionConfig,
    AttentionKind,
    AttentionMode,
    AttentionPreset,
    EarlyStoppingConfig,
    LearningRateScaling,
    RunConfig,
    TrainerConfig,
    check_values,
)


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


def attention_of(**attention: Any) -> RunConfig:
    return RunConfig(name="run", trainer=TrainerConfig(1, 1), attention=AttentionConfig(**attention))


def test_attention_has_the_keys_and_words_of_the_function() -> None:
    """Oracle: the signature of `insert_attention`, and the words that it knows."""
    parameters = inspect.signature(insert_attention).parameters
    assert [field.name for field in fields(AttentionConfig)] == list(parameters)[1:]
    defaults = {name: each.default for name, each in parameters.items() if each.default is not each.empty}
    assert {name: value for name, value in vars(AttentionConfig()).items() if name != "at"} == defaults
    for words, names in ((Kind, AttentionKind), (Mode, AttentionMode), (Preset, AttentionPreset)):
        assert get_args(words) == tuple(names)


@pytest.mark.parametrize("at", [[], "", [""], ["layer4.1", 3], 3, {"layer4": 1}, ["*"] * 65, "x" * 256])
def test_places_of_attention(at: Any) -> None:
    """Oracle: the documented error; a glob and a list of them are taken."""
    with pytest.raises(ConfigError, match=r"attention.at must be a glob, up to 64 in a list, or null"):
        check_values(attention_of(at=at))
    check_values(attention_of(at="layer4.1", alpha=0.5))
    check_values(attention_of(at=["layer4.1", "layer3.*"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("kind", AttentionKind.channel), ("mode", AttentionMode.replace), ("preset", AttentionPreset.detection),
     ("alpha", 0.0), ("beta", 0.5), ("reduction", 4), ("dropout", 0.0), ("residual", True)],
)  # fmt: skip
def test_attention_without_a_place(name: str, value: Any) -> None:
    """Oracle: the documented error, which names the key that is missing."""
    with pytest.raises(ConfigError, match=rf"attention.{name}={value} does nothing without a place; set attention.at"):
        check_values(attention_of(**{name: value}))


@pytest.mark.parametrize("word", ["attention.knd=dual", "+attention.knd=dual", "attention={at: layer4.1, knd: dual}"])
def test_a_typo_in_attention(word: str) -> None:
    """Oracle: the key that was meant."""
    with pytest.raises(ConfigError, match=r"^unknown key attention.knd \(.*\); did you mean attention.kind\?$"):
        compose_config([word])
