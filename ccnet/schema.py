"""What a run's configuration may hold, and between which limits. Imports neither YAML nor torch."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

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


class LearningRateScaling(StrEnum):
    """How optimizer.lr follows the batch size: not at all, in proportion (arXiv:1706.02677), or by the square root."""

    none = "none"
    linear = "linear"
    sqrt = "sqrt"


class BadSample(StrEnum):
    """What an image that cannot be read does to training; an evaluation never leaves one out."""

    error = "error"
    skip = "skip"


class AttentionKind(StrEnum):
    """Which attention is put into a backbone; see ccnet/models/attention/forms.py."""

    dual = "dual"
    dual_light = "dual_light"
    channel = "channel"
    criss_cross = "criss_cross"


class AttentionMode(StrEnum):
    """Whether inserted attention follows a module or stands in its place."""

    after = "after"
    replace = "replace"  # type: ignore[assignment]  # hides the method of str


class AttentionPreset(StrEnum):
    """Strengths of inserted gates, by the task that they were found for."""

    classification = "classification"
    detection = "detection"
    segmentation = "segmentation"


@dataclass
class ModelConfig:
    """What belongs to the whole network: the input normalisation on the 0..255 scale, and how logits are upsampled."""

    mean: list[float] = field(default_factory=lambda: [123.675, 116.28, 103.53])
    std: list[float] = field(default_factory=lambda: [58.395, 57.12, 57.375])
    channel_order: ChannelOrder = ChannelOrder.rgb
    align_corners: bool = False


@dataclass
class AttentionConfig:
    """Attention layers put into the backbone once its own weights are loaded; without `at` there are none.

    at: a glob, or a list of them, over the names of the backbone's modules: `layer4.1`, `layer*.0`.
    The other keys are the arguments of `insert_attention`, whose defaults null stands for.
    """

    at: Any = None  # str or list[str], which OmegaConf has no words for
    kind: AttentionKind = AttentionKind.dual
    mode: AttentionMode = AttentionMode.after
    preset: AttentionPreset | None = None
    alpha: float | None = None
    beta: float | None = None
    reduction: int | None = None
    dropout: float | None = None
    residual: bool = False


@dataclass
class PhaseConfig:
    """A stretch of staged training, `steps` or `epochs` long; the last one lasts to the end and names neither.

    train: glob patterns over parameter names, such as `head.*`; the others are frozen.
    lr: in place of optimizer.lr.
    """

    train: list[str] = field(default_factory=lambda: ["*"])
    lr: float | None = None
    steps: int | None = None
    epochs: float | None = None


@dataclass
class EarlyStoppingConfig:
    """Stops after `patience` evaluations in a row that did not better the metric by more than `min_delta`.

    The best checkpoint, which is kept and predicted with, is that of the highest mIoU all the same.
    """

    metric: str = "mIoU"
    patience: int | None = None
    min_delta: float = 0.0


@dataclass
class TrainerConfig:
    """The loop. `batch_size` counts over all ranks and every interval is in steps.

    accumulation: parts into which each rank cuts its share of a batch, one after the other through the network.
    lr_scaling: of optimizer.lr, which is meant for batches of `lr_batch_size`.
    max_bad_steps: so many steps in a row without a finite loss end the run.
    overfit_batches: repeats the first batches for ever; 0 trains on everything.
    worker_timeout: seconds that a batch may take a data worker.
    """

    max_steps: int = MISSING
    batch_size: int = MISSING
    accumulation: int = 1
    precision: Precision = Precision.fp32
    device: Device = Device.auto
    clip_grad_norm: float | None = None
    lr_scaling: LearningRateScaling = LearningRateScaling.none
    lr_batch_size: int = 8
    ema_decay: float | None = None
    freeze_norms: bool = False
    channels_last: bool = False
    activation_checkpointing: bool = False
    compile: bool = False
    max_bad_steps: int = 5
    overfit_batches: int = 0
    workers: int = 1
    worker_timeout: float = 300.0
    on_bad_sample: BadSample = BadSample.error
    log_every: int = 20
    evaluate_every: int = 1000
    save_every: int = 1000
    keep: int = 2
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)


@dataclass
class RunConfig:
    """A run. The parts are checked against the signatures of what their `_target_` names.

    cache: folder of the decoded training images that tools/prepare_data.py cache wrote.
    init_from: a run, a checkpoint or a weight file, of which everything that fits is where training begins.
    phases: of staged training; without any, everything is trained all along.
    """

    name: str = MISSING
    seed: int = 0
    runs_dir: str = "runs"
    dataset: Part = MISSING
    train_split: str = "train"
    val_split: str = "val"
    prepare: Part | None = None
    cache: str | None = None
    augmentation: Part = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone: Part = MISSING
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    head: Part = MISSING
    auxiliary_head: Part = MISSING
    loss: Part = MISSING
    optimizer: Part = MISSING
    schedule: Part = MISSING
    evaluation: Part = MISSING
    report: Part | None = None
    init_from: str | None = None
    phases: list[PhaseConfig] = field(default_factory=list)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


AT_LEAST_ONE = ("max_steps", "batch_size", "accumulation", "lr_batch_size", "max_bad_steps", "log_every",
                "evaluate_every", "save_every", "keep")  # fmt: skip
MOST_GLOBS = 64
LEAST = {"workers": 0, "overfit_batches": 0, **dict.fromkeys(AT_LEAST_ONE, 1)}


def check_values(config: RunConfig) -> None:
    """Holds what Python itself reads against its limits.

    Raises:
        ConfigError: the key, its value, and the limit.
    """
    trainer = config.trainer
    for name, minimum in LEAST.items():
        if getattr(trainer, name) < minimum:
            raise ConfigError(f"trainer.{name} must be at least {minimum}, got {getattr(trainer, name)}")
    for name, or_null in (("clip_grad_norm", " or null"), ("worker_timeout", "")):
        value = getattr(trainer, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"trainer.{name} must be positive{or_null}, got {value}")
    if trainer.ema_decay is not None and not 0 < trainer.ema_decay < 1:
        raise ConfigError(f"trainer.ema_decay must lie between 0 and 1 or be null, got {trainer.ema_decay}")
    _refuse_idle(trainer)
    _check_attention(config.attention)
    if not 0 <= config.seed < 2**63:
        raise ConfigError(f"seed must be at least 0 and less than 2**63, got {config.seed}")
    if (
        not config.name.strip("./ ")
        or config.name == "latest"
        or Path(config.name).is_absolute()
        or ".." in Path(config.name).parts
    ):
        raise ConfigError(f"name must be a folder name below runs_dir, got '{config.name}'")


def _check_attention(attention: AttentionConfig) -> None:
    """Its place; the layers themselves check the rest."""
    at, default = attention.at, AttentionConfig()
    if at is None:
        for name, value in vars(attention).items():
            if value != getattr(default, name):
                raise ConfigError(f"attention.{name}={value} does nothing without a place; set attention.at")
        return
    globs = at if isinstance(at, list) else [at]
    if not 0 < len(globs) <= MOST_GLOBS or not all(isinstance(glob, str) and 0 < len(glob) < 256 for glob in globs):
        raise ConfigError(f"attention.at must be a glob, up to {MOST_GLOBS} in a list, or null, got {str(at)[:200]}")


def _refuse_idle(trainer: TrainerConfig) -> None:
    """Refuses a changed key that nothing would read."""
    early, default = trainer.early_stopping, EarlyStoppingConfig()
    for name in ("metric", "min_delta"):
        if early.patience is None and getattr(early, name) != getattr(default, name):
            raise ConfigError(
                f"trainer.early_stopping.{name}={getattr(early, name)} does nothing without a patience; "
                "set trainer.early_stopping.patience"
            )
    if trainer.lr_scaling == LearningRateScaling.none and trainer.lr_batch_size != TrainerConfig.lr_batch_size:
        raise ConfigError(
            f"trainer.lr_batch_size={trainer.lr_batch_size} does nothing while trainer.lr_scaling is none; "
            "set trainer.lr_scaling to linear or sqrt"
        )
