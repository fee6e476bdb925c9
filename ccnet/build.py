"""From configuration to objects: the only place that instantiates what a `_target_` names."""

import inspect
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from torch import nn

from ccnet import distributed
from ccnet.config import Part, RunConfig
from ccnet.config_errors import origin, unknown_key
from ccnet.data.class_pixels import class_pixels
from ccnet.data.loader import Batch, evaluation_batches, train_batches
from ccnet.data.sample import LabelledImages
from ccnet.errors import ConfigError, UserError
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.inference import Inference
from ccnet.evaluation.report import Report
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.training.trainer import Trainer

logger = logging.getLogger("ccnet")

PARTS = ("dataset", "prepare", "augmentation", "backbone", "head", "auxiliary_head", "loss", "optimizer", "schedule",
         "evaluation", "report")  # fmt: skip
# What the builders below hand over themselves; a configuration must not set it.
GIVEN = {"split", "in_channels", "num_classes", "model", "max_steps", "align_corners"}


# What a checkpoint's configuration may build, and out of which package.
TRUSTED = {"dataset": "ccnet.data.", "backbone": "ccnet.models.backbones.", "head": "ccnet.models.heads.",
           "auxiliary_head": "ccnet.models.heads.", "evaluation": "ccnet.evaluation."}  # fmt: skip


def check(config: RunConfig, overrides: Sequence[str] = (), parts: Iterable[str] = PARTS) -> None:
    """Holds every argument of the parts against the signature of their `_target_`, before anything is built.

    Raises:
        ConfigError: an unknown or missing argument, a wrong value, or a target that does not exist.
    """
    for name in parts:
        part = getattr(config, name)
        if part is not None:
            _check_part(part, name, overrides)


def _check_part(part: Part, path: str, overrides: Sequence[str]) -> None:
    if "_target_" not in part:
        raise ConfigError(f"{path} has no _target_ ({origin(path, overrides)}): it is not a part")
    try:
        target = get_object(part["_target_"])
    except Exception as error:  # Hydra wraps whatever the import raises
        raise ConfigError(
            f"{path}._target_={part['_target_']} ({origin(path, overrides)}) cannot be imported"
        ) from error
    parameters = inspect.signature(target).parameters
    given = {key: value for key, value in part.items() if not key.startswith("_")}
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in given.items():
        if key not in parameters or key in GIVEN:
            raise unknown_key(f"{path}.{key}", parameters.keys() - GIVEN, overrides)
        _check_value(value, hints.get(key, Any), f"{path}.{key}", overrides)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given and key not in GIVEN:
            raise ConfigError(f"{path}.{key} is needed by {part['_target_']} and nowhere set")


def _check_value(value: Any, hint: Any, path: str, overrides: Sequence[str]) -> None:
    nested = value if isinstance(value, Mapping) else {}
    parts = {path: value} if "_target_" in nested else {f"{path}.{key}": child for key, child in nested.items()}
    if any(isinstance(child, Mapping) and "_target_" in child for child in parts.values()):
        for key, child in parts.items():
            _check_part(child if isinstance(child, dict) else {}, key, overrides)
        return
    try:
        TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
    except PydanticUserError:  # a hint that brings its own rules, which the constructor will apply
        return
    except ValidationError as error:
        reasons = dict.fromkeys(each["msg"][0].lower() + each["msg"][1:] for each in error.errors())
        raise ConfigError(f"{path}={value} ({origin(path, overrides)}): {', or '.join(reasons)}") from error


def check_trusted(config: RunConfig, parts: Iterable[str] = TRUSTED, allowed: Collection[str] = ()) -> None:
    """A configuration that came with a checkpoint may build models, and data sets to read, nothing else.

    Args:
        config: the stored configuration.
        parts: those that will be built.
        allowed: targets that the caller trusts beside ccnet's own.

    Raises:
        ConfigError: a part whose `_target_` is no class of ccnet's own.
    """
    for name in parts:
        part, package = getattr(config, name), TRUSTED[name]
        target = part.get("_target_")
        if not _is_own_class(part, package) and target not in allowed:
            raise ConfigError(
                f"the checkpoint's {name} wants {target}, which is no class of {package}*; "
                "if it is your own, name it with --allow-target"
            )


def _is_own_class(part: Part, package: str) -> bool:
    target = part.get("_target_")
    # The name is held against the package before the import: importing a stranger's module would run it.
    if not isinstance(target, str) or not target.startswith(package) or _has_target(list(part.values())):
        return False
    try:
        found = get_object(target)
    except Exception:  # Hydra wraps whatever the import raises
        return False
    return inspect.isclass(found) and found.__module__.startswith(package)


def _has_target(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or _has_target(list(value.values()))
    return isinstance(value, list) and any(_has_target(child) for child in value)


def rehearse(config: RunConfig) -> None:
    """Makes everything that needs no data, the network on the meta device, and drops it: what a constructor refuses
    stops a run before data is touched.

    Raises:
        ConfigError: the constructor's reason.
    """
    with torch.device("meta"):
        model = build_model(config, num_classes=2, pretrained=False)
    build_part(config.optimizer, model=model)
    build_part(config.schedule, max_steps=config.trainer.max_steps)
    build_part(config.augmentation)
    build_loss(config)
    build_inference(config)
    build_report(config)


def build_dataset(config: RunConfig, split: str) -> LabelledImages:
    """The data set of a split."""
    return build_part(config.dataset, split=split)


def prepare_dataset(config: RunConfig) -> None:
    """Generates the data set where its configuration says how."""
    if config.prepare is not None:
        build_part(config.prepare)


def build_model(config: RunConfig, num_classes: int, *, pretrained: bool) -> Segmentor:
    """The network, with an auxiliary head where its loss has a weight.

    Args:
        config: of the run.
        num_classes: of the data set.
        pretrained: whether the backbone reads its weights; not where a checkpoint's will follow.
    """
    backbone = build_part(config.backbone if pretrained else {**config.backbone, "weights": None})
    channels = {"in_channels": backbone.out_channels, "num_classes": num_classes}
    auxiliary_head = build_part(config.auxiliary_head, **channels) if config.loss.get("auxiliary_weight") else None
    model = config.model
    preprocess = Preprocess(model.mean, model.std, model.channel_order.value)
    return Segmentor(preprocess, backbone, build_part(config.head, **channels), auxiliary_head, model.align_corners)


def build_loss(config: RunConfig, pixels: Sequence[int] | None = None) -> nn.Module:
    """(outputs, mask) -> named terms.

    Args:
        config: of the run.
        pixels: of each class in the training set, for class weights that are made from them.

    Raises:
        ConfigError: the head computes an embedding that no term uses.
    """
    loss = build_part(config.loss, align_corners=config.model.align_corners)
    if config.head.get("embedding_channels") and not getattr(loss, "uses_features", True):
        raise ConfigError("head.embedding_channels is set and no loss term uses it; set it to null")
    if pixels:
        loss.set_class_pixels(pixels)
        if distributed.is_main():
            for name, weights in loss.named_buffers(prefix="loss"):
                logger.info("%s: %s", name, " ".join(f"{weight:.3g}" for weight in weights))
    return loss


def count_class_pixels(config: RunConfig, dataset: LabelledImages, device: torch.device) -> list[int] | None:
    """The training set's pixels of each class, where class weights are made from them; the ranks share the masks."""
    if not getattr(build_loss(config), "uses_class_pixels", False):
        return None
    rank, world_size = distributed.rank(), distributed.world_size()
    own = class_pixels(dataset, workers=config.trainer.workers, rank=rank, world_size=world_size)
    return distributed.sum_over_ranks(own.to(device)).tolist()


def build_inference(config: RunConfig) -> Inference:
    """(model, image) -> probabilities."""
    return build_part(config.evaluation)


def build_evaluator(config: RunConfig, dataset: LabelledImages, device: torch.device, **extra: Any) -> Evaluator:
    """model -> scores on a data set that all ranks share."""
    batches = partial(
        evaluation_batches,
        dataset,
        workers=config.trainer.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    return Evaluator(
        batches,
        build_inference(config),
        dataset.class_names,
        device,
        sum_over_ranks=distributed.sum_over_ranks,
        region_names=dataset.region_names,
        **extra,
    )


def build_report(config: RunConfig) -> Report | None:
    """What ends a run in place of the table of scores, where its configuration names something."""
    return None if config.report is None else build_part(config.report)


def build_trainer(
    config: RunConfig, model: Segmentor, device: torch.device, pixels: Sequence[int] | None = None
) -> Trainer:
    """The loop around a model that is on its device already; `pixels` as for the loss."""
    trainer = config.trainer
    if trainer.channels_last:
        model.to(memory_format=torch.channels_last)
    return Trainer(
        model=distributed.parallel(model, device),
        loss=build_loss(config, pixels).to(device),
        optimizer=build_part(config.optimizer, model=model),
        schedule=build_part(config.schedule, max_steps=trainer.max_steps),
        device=device,
        precision=trainer.precision,
        clip_grad_norm=trainer.clip_grad_norm,
        channels_last=trainer.channels_last,
        seed=config.seed,
    )


def build_train_batches(config: RunConfig, dataset: LabelledImages, start_step: int) -> Iterator[Batch]:
    """What this rank trains on from a step on."""
    return train_batches(
        dataset,
        build_part(config.augmentation),
        seed=config.seed,
        batch_size=config.trainer.batch_size,
        steps=range(start_step, config.trainer.max_steps),
        workers=config.trainer.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )


def build_part(part: Part, **given: Any) -> Any:
    """What a `_target_` names, made from the part's arguments and what is given.

    Objects are handed over past Hydra, which would wrap lists and dicts of them.

    Raises:
        ConfigError: the constructor refuses a value.
    """
    try:
        return instantiate({**part, "_partial_": True}, _convert_="all")(**given)
    except UserError:
        raise
    except (ValueError, InstantiationException) as error:
        raise ConfigError(f"{part['_target_']}: {error.__cause__ or error}") from error
