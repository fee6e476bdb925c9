"""The configuration of a run: schema, composition, checks. Knows YAML, imports no torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccnet.config_errors import CONFIG_DIR, explain, unknown_key
from ccnet.errors import ConfigError

Part = dict[str, Any]  # a `_target_` and its arguments


class Precision(StrEnum):
    """Number format of the forward pass; anything but fp32 is autocast, losses stay in float32."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Device(StrEnum):
    """Where a run computes; auto takes CUDA, else Apple's MPS, else the CPU."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


class ChannelOrder(StrEnum):
    """Channel order that the backbone's weights expect; images themselves are always RGB."""

    rgb = "rgb"
    bgr = "bgr"


@dataclass
class ModelConfig:
    """What belongs to the whole network: the input normalisation on the 0..255 scale, and how logits are upsampled."""

    mean: list[float] = field(default_factory=lambda: [123.675, 116.28, 103.53])
    std: list[float] = field(default_factory=lambda: [58.395, 57.12, 57.375])
    channel_order: ChannelOrder = ChannelOrder.rgb
    align_corners: bool = False


@dataclass
class TrainerConfig:
    """The loop. `batch_size` counts over all ranks and every interval is in steps."""

    max_steps: int = MISSING
    batch_size: int = MISSING
    precision: Precision = Precision.fp32
    device: Device = Device.auto
    clip_grad_norm: float | None = None
    channels_last: bool = False
    workers: int = 1
    log_every: int = 20
    evaluate_every: int = 1000
    save_every: int = 1000
    keep: int = 2


@dataclass
class RunConfig:
    """A run. The parts are checked against the signatures of what their `_target_` names."""

    name: str = MISSING
    seed: int = 0
    runs_dir: str = "runs"
    dataset: Part = MISSING
    train_split: str = "train"
    val_split: str = "val"
    prepare: Part | None = None
    augmentation: Part = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: Part = MISSING
    head: Part = MISSING
    auxiliary_head: Part = MISSING
    loss: Part = MISSING
    optimizer: Part = MISSING
    schedule: Part = MISSING
    evaluation: Part = MISSING
    report: Part | None = None
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


ConfigStore.instance().store(name="schema", node=RunConfig)

KEYS = {schema.__name__: [f.name for f in fields(schema)] for schema in (RunConfig, ModelConfig, TrainerConfig)}
KEYS[""] = KEYS[RunConfig.__name__]


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
    _check_values(config)
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
        ConfigError: an unknown key, a wrong value, or an interpolation.
    """
    if "${" in json.dumps(plain):
        raise ConfigError("a stored configuration is resolved; this one holds an interpolation ${...}")
    with composition_errors(()):
        return to_config(OmegaConf.merge(OmegaConf.structured(RunConfig), dict(plain)))  # type: ignore[arg-type]


def to_yaml(config: RunConfig) -> str:
    """The configuration as a person reads it."""
    return OmegaConf.to_yaml(OmegaConf.create(to_json(config)))


def from_yaml(path: Path) -> RunConfig:
    """Reads what `to_yaml` wrote."""
    return from_json(OmegaConf.to_container(OmegaConf.load(path)))  # type: ignore[arg-type]


def differing_keys(old: RunConfig, new: RunConfig) -> list[str]:
    """`key: old -> new` for every value that differs."""
    before, after = _flat(to_json(old)), _flat(to_json(new))
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


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


def _check_values(config: RunConfig) -> None:
    trainer = config.trainer
    for name in ("max_steps", "batch_size", "log_every", "evaluate_every", "save_every", "keep"):
        if getattr(trainer, name) < 1:
            raise ConfigError(f"trainer.{name} must be at least 1, got {getattr(trainer, name)}")
    if trainer.workers < 0:
        raise ConfigError(f"trainer.workers must be at least 0, got {trainer.workers}")
    if trainer.clip_grad_norm is not None and trainer.clip_grad_norm <= 0:
        raise ConfigError(f"trainer.clip_grad_norm must be positive or null, got {trainer.clip_grad_norm}")
    if config.seed < 0:
        raise ConfigError(f"seed must be at least 0, got {config.seed}")
    if (
        not config.name.strip("./ ")
        or config.name == "latest"
        or Path(config.name).is_absolute()
        or ".." in Path(config.name).parts
    ):
        raise ConfigError(f"name must be a folder name below runs_dir, got '{config.name}'")


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {key: value for name, child in tree.items() for key, value in _flat(child, f"{prefix}{name}.").items()}
