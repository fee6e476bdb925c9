"""From configuration to objects: the only place that instantiates what a `_target_` names."""

import gc
import logging
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer

from ccnet import distributed
from ccnet.data.cache import CachedImages
from ccnet.data.class_pixels import class_pixels
from ccnet.data.loader import Batch, evaluation_batches, train_batches
from ccnet.data.sample import LabelledImages, require_labels
from ccnet.errors import ConfigError, UserError
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.inference import Inference
from ccnet.evaluation.metrics import score_names
from ccnet.evaluation.report import Report
from ccnet.models.activation_checkpointing import checkpoint_activations
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.optim import scaled_lr
from ccnet.schema import LearningRateScaling, Part, RunConfig
from ccnet.training.early_stopping import EarlyStopping
from ccnet.training.ema import WeightAverage
from ccnet.training.finite import FiniteGuard
from ccnet.training.modes import freeze_norms, training_mode
from ccnet.training.phases import Phases, require_parameters, resolve
from ccnet.training.trainer import Trainer

logger = logging.getLogger("ccnet")


def rehearse(config: RunConfig) -> None:
    """Makes everything that needs no data, the network on the meta device, and drops it: what a constructor refuses
    stops a run before data is touched.

    Raises:
        ConfigError: the constructor's reason.
    """
    with torch.device("meta"):
        model = build_model(config, num_classes=2, pretrained=False)
    build_optimizer(config, model)
    require_parameters(model, config.phases)
    if config.trainer.activation_checkpointing:
        checkpoint_activations(model.backbone)
    build_part(config.schedule, max_steps=config.trainer.max_steps)
    build_part(config.augmentation)
    build_loss(config)
    build_inference(config)
    build_report(config)


def build_dataset(config: RunConfig, split: str) -> LabelledImages:
    """The data set of a split.

    Raises:
        DataError: it has no labels.
    """
    dataset = build_part(config.dataset, split=split)
    require_labels(dataset, split)
    return dataset


def build_train_set(config: RunConfig) -> LabelledImages:
    """The data set that is trained on, decoded beforehand where the configuration names a cache."""
    dataset = build_dataset(config, config.train_split)
    return dataset if config.cache is None else CachedImages(dataset, config.cache)


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
    own = class_pixels(
        dataset,
        workers=config.trainer.workers,
        rank=rank,
        world_size=world_size,
        timeout=config.trainer.worker_timeout,
        on_bad_sample=config.trainer.on_bad_sample.value,
    )
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
        timeout=config.trainer.worker_timeout,
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


def require_equal_parts(config: RunConfig) -> None:
    """Raises:
    ConfigError: the batch cannot be shared by the ranks, and cut as `trainer.accumulation` says.
    """
    trainer, ranks = config.trainer, distributed.world_size()
    if trainer.batch_size % (ranks * trainer.accumulation):
        raise ConfigError(
            f"trainer.batch_size={trainer.batch_size} cannot be cut into trainer.accumulation={trainer.accumulation} "
            f"equal parts on each of {ranks} ranks"
        )


def build_average(config: RunConfig, model: Segmentor) -> WeightAverage | None:
    """The moving average of the weights, where the configuration wants one."""
    decay = config.trainer.ema_decay
    return None if decay is None else WeightAverage(model, decay)


def build_trainer(
    config: RunConfig,
    model: Segmentor,
    device: torch.device,
    pixels: Sequence[int] | None = None,
    record: Path | None = None,
) -> Trainer:
    """The loop around a model that is on its device already.

    Args:
        config: of the run.
        model: the bare model.
        device: of this rank.
        pixels: as for the loss.
        record: takes a line for each batch that was left out.
    """
    trainer = config.trainer
    if trainer.channels_last:
        model.to(memory_format=torch.channels_last)
    if trainer.freeze_norms:
        freeze_norms(model.backbone)
    if trainer.activation_checkpointing:
        checkpoint_activations(model.backbone)
    return Trainer(
        model=in_training_form(config, model, device),
        loss=build_loss(config, pixels).to(device),
        optimizer=build_optimizer(config, model),
        schedule=build_part(config.schedule, max_steps=trainer.max_steps),
        device=device,
        guard=FiniteGuard(model, trainer.max_bad_steps, record),
        precision=trainer.precision,
        accumulation=trainer.accumulation,
        clip_grad_norm=trainer.clip_grad_norm,
        channels_last=trainer.channels_last,
        seed=config.seed,
    )


def in_training_form(config: RunConfig, model: nn.Module, device: torch.device) -> nn.Module:
    """The model as the loop calls it: gradients averaged over ranks, compiled where that is wanted."""
    if config.trainer.compile:
        model = torch.compile(model)  # type: ignore[assignment]  # a module around the module, in truth
    return distributed.parallel(model, device)


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """The optimizer, whose learning rate follows the batch size as `trainer.lr_scaling` says."""
    trainer, part = config.trainer, config.optimizer
    if trainer.lr_scaling != LearningRateScaling.none:
        lr = scaled_lr(part["lr"], trainer.batch_size, trainer.lr_batch_size, trainer.lr_scaling)
        part = {**part, "lr": lr}
    return build_part(part, model=model)


def build_phases(config: RunConfig, trainer: Trainer, model: nn.Module, num_images: int) -> list[Phases]:
    """What staged training does before each step, where the configuration has phases.

    A phase's learning rate follows the batch size like `optimizer.lr`.
    """
    if not config.phases:
        return []

    def enter() -> None:
        trainer.model = model  # lets go of the old wrapper, whose hooks are on the parameters until it is gone
        gc.collect()
        trainer.model = in_training_form(config, model, trainer.device)
        training_mode(trainer.model)

    stages = resolve(config.phases, num_images / config.trainer.batch_size, config.trainer.max_steps)
    return [Phases(model, trainer.optimizer, stages, config.optimizer["lr"], enter)]


def build_early_stopping(config: RunConfig, dataset: LabelledImages) -> EarlyStopping | None:
    """What watches the scores on a data set, where `trainer.early_stopping.patience` is set."""
    early = config.trainer.early_stopping
    if early.patience is None:
        return None
    known = score_names(dataset.class_names, dataset.region_names)
    return EarlyStopping(early.metric, early.patience, early.min_delta, known)


def build_train_batches(config: RunConfig, dataset: LabelledImages, start_step: int) -> Generator[Batch, None, None]:
    """What this rank trains on from a step on."""
    trainer = config.trainer
    return train_batches(
        dataset,
        build_part(config.augmentation),
        seed=config.seed,
        batch_size=trainer.batch_size,
        steps=range(start_step, trainer.max_steps),
        workers=trainer.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        overfit_batches=trainer.overfit_batches,
        timeout=trainer.worker_timeout,
        on_bad_sample=trainer.on_bad_sample.value,
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
    except (ValueError, OSError, InstantiationException) as error:
        raise ConfigError(f"{part['_target_']}: {error.__cause__ or error}") from error
