"""The configuration of a run: composed, stored, compared. Knows YAML, imports no torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccnet.config_errors import CONFIG_DIR, explain, unknown_key
from ccnet.errors import ConfigError
from ccnet.schema import (
    AttentionConfig,
    EarlyStoppingConfig,
    ModelConfig,
    PhaseConfig,
    RunConfig,
    TrainerConfig,
    check_values,
)

ConfigStore.instance().store(name="schema", node=RunConfig)

SCHEMAS = (RunConfig, AttentionConfig, ModelConfig, TrainerConfig, PhaseConfig, EarlyStoppingConfig)
KEYS = {schema.__name__: [f.name for f in fields(schema)] for schema in SCHEMAS}
KEYS[""] = KEYS[RunConfig.__name__]
# Of a stored configuration, which has some five thousand characters, and brackets for empty lists alone.
MOST_TEXT, MOST_BRACKETS = 1 << 16, 500


@contextmanager
def composition_errors(overrides: Sequence[str]) -> Iterator[None]:
    """What Hydra and OmegaConf complain about, as a `ConfigError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, KEYS, overrides) from error


def compose_config(overrides: Sequence[str] = ()) -> RunConfig:
    """configs/train.yaml with overrides, as on the command line of tools/train.py.

    Raises:
        ConfigError: an unknown key or a wrong value.
    """
    GlobalHydra.instance().clear()
    with composition_errors(overrides), initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return to_config(compose("train", list(overrides)), overrides)


def to_config(node: DictConfig, overrides: Sequence[str] = ()) -> RunConfig:
    """A composed tree -> the typed configuration, checked as far as Python's own fields go.

    Raises:
        ConfigError: an unknown or missing key, or a wrong value.
    """
    _check_keys(node, RunConfig, "", overrides)
    _check_order(overrides)
    with composition_errors(overrides):
        config = OmegaConf.to_object(node)
    assert isinstance(config, RunConfig)
    check_values(config)
    return config


def override(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """A stored configuration with Hydra overrides: values (`head.recurrence=3`) or whole groups (`dataset=camvid`).

    Raises:
        ConfigError: an unknown key or group, or a wrong value.
    """
    if not overrides:
        return config
    node = OmegaConf.structured(config)
    with composition_errors(overrides):
        for item in OverridesParser.create().parse_overrides(list(overrides)):
            key = item.key_or_group
            if "." not in key and (CONFIG_DIR / key).is_dir():
                told = [word for word in overrides if word.startswith((f"{key}=", f"{key}."))]
                node[key] = asdict(compose_config(told))[key]
            else:
                OmegaConf.update(node, key, item.value(), force_add=item.is_add())
    return to_config(node, overrides)


def with_sweep_name(config: RunConfig) -> RunConfig:
    """In a sweep (-m) each run's name carries its overrides, so that each has a folder of its own."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return config
    told = [item for item in hydra.overrides.task if not item.lstrip("+").startswith(("experiment=", "name=", "runs_"))]
    label = ",".join(told).replace("/", "_")
    if len(label) > 100:  # file systems end at 255 bytes, readers earlier
        label = hashlib.sha256(label.encode()).hexdigest()[:12]
    return replace(config, name=f"{config.name},{label}")


def to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def from_json(plain: Mapping[str, Any]) -> RunConfig:
    """The inverse of `to_json`, for a configuration that came out of a file and is not trusted.

    Raises:
        ConfigError: an unknown key, a wrong value, an interpolation, or more than a configuration can be.
    """
    try:
        text = json.dumps(plain)
        if len(text) > MOST_TEXT:
            raise ConfigError(f"a stored configuration has {len(text)} characters, which is beyond all measure")
        if "${" in text:
            raise ConfigError("a stored configuration is resolved; this one holds an interpolation ${...}")
        with composition_errors(()):
            return to_config(OmegaConf.merge(OmegaConf.structured(RunConfig), dict(plain)))  # type: ignore[arg-type]
    except (TypeError, AttributeError, ArithmeticError, RecursionError) as error:  # values that YAML and JSON can hold
        raise ConfigError(f"a stored configuration cannot be read: {error}") from error


def to_yaml(config: RunConfig) -> str:
    """The configuration as a person reads it."""
    return OmegaConf.to_yaml(OmegaConf.create(to_json(config)))


def from_yaml(path: Path) -> RunConfig:
    """Reads what `to_yaml` wrote.

    Raises:
        ConfigError: something else stands there.
    """
    try:
        if path.stat().st_size > MOST_TEXT:
            raise ConfigError("it is larger than a configuration can be")
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > MOST_BRACKETS:  # the time to read nested ones grows with their square
            raise ConfigError("it holds more brackets than a stored configuration can have")
        # Aliases of aliases would fill the memory from a few bytes.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigError("it uses YAML aliases; a stored configuration holds none")
        plain = yaml.safe_load(text)
        if not isinstance(plain, dict):
            raise ConfigError("it holds no configuration")
        return from_json(plain)
    except Exception as error:  # yaml raises whatever a stranger's values make it raise
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def differing_keys(old: RunConfig, new: RunConfig) -> dict[str, str]:
    """`old -> new` by key, for every value that differs."""
    before, after = flat(to_json(old)), flat(to_json(new))
    return {
        key: f"{before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _check_keys(node: DictConfig, schema: type, prefix: str, overrides: Sequence[str]) -> None:
    """`+trainer.nonsense=1` gets past Hydra, `~seed` does too."""
    known = {f.name for f in fields(schema)}
    for key in map(str, node):
        if key not in known:
            raise unknown_key(prefix + key, known, overrides)
        child = getattr(schema(), key, None)
        if is_dataclass(child) and isinstance(node[key], DictConfig):
            _check_keys(node[key], type(child), f"{prefix}{key}.", overrides)
    if gone := known - set(map(str, node)):
        raise ConfigError(f"key {prefix}{min(gone)} was taken out; it is needed")


def _check_order(overrides: Sequence[str]) -> None:
    """Hydra lets the later of two appended files win, and an experiment would undo what debug shrinks."""
    groups = [word.partition("=")[0] for word in overrides]
    if "+debug" in groups and "+experiment" in groups[groups.index("+debug") :]:
        raise ConfigError("+debug=... must come after +experiment=..., which would undo it")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys."""
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, child in tree.items() for key, value in flat(child, f"{prefix}{name}.").items()}
