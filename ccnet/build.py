"""From configuration to objects: the only place that instantiates what a `_target_` names."""

import logging
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from ccnet import distributed
from ccnet.data.loader import Batch, evaluation_batches
from ccnet.data.sample import LabelledImages, require_labels
from ccnet.errors import ConfigError, UserError
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.inference import Inference
from ccnet.evaluation.report import Report
from ccnet.models.attention.insertion import insert_attention
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.schema import Part, RunConfig

logger = logging.getLogger("ccnet")

RGB_CHANNELS = 3  # what every backbone takes; one with an `in_channels` argument takes others, too


def build_dataset(config: RunConfig, split: str, *, labelled: bool = True) -> LabelledImages:
    """The data set of a split.

    Raises:
        DataError: it has no labels, and must be `labelled`.
    """
    dataset = build_part(config.dataset, split=split)
    if labelled:
        require_labels(dataset, split)
    return dataset


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
    model = config.model
    image = {} if len(model.mean) == RGB_CHANNELS else {"in_channels": len(model.mean)}
    backbone = build_part(config.backbone if pretrained else {**config.backbone, "weights": None}, **image)
    if config.attention.at is not None:
        insert_attention(backbone, **vars(config.attention))
    channels = {"in_channels": backbone.out_channels, "num_classes": num_classes}
    auxiliary_head = build_part(config.auxiliary_head, **channels) if config.loss.get("auxiliary_weight") else None
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


def build_inference(config: RunConfig) -> Inference:
    """(model, image) -> probabilities."""
    return build_part(config.evaluation)


def build_evaluation_batches(
    config: RunConfig, dataset: LabelledImages, batch_size: int
) -> Generator[Batch, None, None]:
    """A pass over this rank's share of a data set."""
    return evaluation_batches(
        dataset,
        batch_size=batch_size,
        workers=config.trainer.workers,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        timeout=config.trainer.worker_timeout,
    )


def build_evaluator(config: RunConfig, dataset: LabelledImages, device: torch.device, **extra: Any) -> Evaluator:
    """model -> scores on a data set that all ranks share."""
    inference = build_inference(config)
    return Evaluator(
        partial(build_evaluation_batches, config, dataset, inference.batch_size),
        inference,
        dataset.class_names,
        device,
        sum_over_ranks=distributed.sum_over_ranks,
        gather=distributed.gather,
        region_names=dataset.region_names,
        **extra,
    )


def build_report(config: RunConfig) -> Report | None:
    """What ends a run in place of the table of scores, where its configuration names something."""
    return None if config.report is None else build_part(config.report)


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
