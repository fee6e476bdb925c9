"""From configuration to what a training run needs beside model and data."""

import gc
from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from ccnet import distributed
from ccnet.build import build_dataset, build_inference, build_loss, build_model, build_part, build_report
from ccnet.data.cache import CachedImages
from ccnet.data.class_pixels import class_pixels
from ccnet.data.loader import Batch, train_batches
from ccnet.data.sample import LabelledImages
from ccnet.errors import ConfigError
from ccnet.evaluation.metrics import score_names
from ccnet.models.activation_checkpointing import checkpoint_activations
from ccnet.models.segmentor import Segmentor
from ccnet.optim import scaled_lr
from ccnet.schema import LearningRateScaling, RunConfig
from ccnet.training.early_stopping import EarlyStopping
from ccnet.training.ema import WeightAverage
from ccnet.training.finite import FiniteGuard
from ccnet.training.modes import freeze_norms, training_mode
from ccnet.training.phases import Phases, require_parameters, resolve
from ccnet.training.trainer import Trainer


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


def build_train_set(config: RunConfig) -> LabelledImages:
    """The data set that is trained on, decoded beforehand where the configuration names a cache."""
    dataset = build_dataset(config, config.train_split)
    return dataset if config.cache is None else CachedImages(dataset, config.cache)


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
