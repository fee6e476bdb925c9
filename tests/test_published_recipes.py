"""Experiments that reproduce published recipes to the letter: their numbers, written out."""

import pytest
import torch

from ccnet import build
from ccnet.config import compose_config
from ccnet.schema import RunConfig

COMMON = {"crop_size": [769, 769], "flip": 0.5, "padding": "end", "cat_max_ratio": 1.0, "blur": 0.0}


def recipe(name: str) -> RunConfig:
    """An experiment, whose augmentation and network can be built."""
    config = compose_config([f"+experiment={name}"])
    build.build_part(config.augmentation)
    with torch.device("meta"):
        build.build_model(config, 19, pretrained=False)
    return config


def require_common(config: RunConfig) -> None:
    """What both share: 60k steps of 8 images of 769x769, SGD at 0.01 without a warm-up, one group that all decays."""
    trainer, optimizer, schedule = config.trainer, config.optimizer, config.schedule
    assert (trainer.max_steps, trainer.batch_size, trainer.precision, trainer.clip_grad_norm) == (
        60000,
        8,
        "fp32",
        None,
    )
    assert (optimizer["lr"], optimizer["momentum"], optimizer["nesterov"]) == (0.01, 0.9, False)
    assert (optimizer["head_lr_factor"], optimizer["decay_all"]) == (1.0, True)
    assert (schedule["power"], schedule["warmup_steps"]) == (0.9, 0)
    assert {key: config.augmentation[key] for key in COMMON} == COMMON
    assert (config.head["recurrence"], config.head["channels"], config.head["dropout"]) == (2, 512, 0.1)
    assert (config.auxiliary_head["channels"], config.auxiliary_head["feature"]) == (512, -2)
    assert (config.loss["auxiliary_weight"], config.loss["auxiliary"]["class_weights"]) == (0.4, None)
    assert (config.dataset["_target_"], config.train_split) == ("ccnet.data.cityscapes.Cityscapes", "train")


def test_the_official_recipe() -> None:
    """Oracle: README, networks and loaders of the official code, and its OHEM at 0.7 and 100000 over a map of 1/8."""
    config = recipe("cityscapes_r2_ohem_official")
    require_common(config)
    model, augmentation, backbone = config.model, config.augmentation, config.backbone
    assert (model.mean, model.std) == ([104.00698793, 116.66876762, 122.67891434], [1.0, 1.0, 1.0])
    assert (model.channel_order, model.align_corners) == ("bgr", True)
    assert (augmentation["scale"], augmentation["scale_step"]) == ([0.7, 2.1], 0.1)
    assert {augmentation[key] for key in ("brightness", "contrast", "saturation", "hue")} == {0.0}
    assert augmentation["padding_color"] == [round(mean) for mean in reversed(model.mean)]
    assert (backbone["depth"], backbone["variant"], backbone["contract_dilation"]) == (101, "ccnet", False)
    assert (backbone["output_stride"], backbone["norm_momentum"]) == (8, 0.1)
    assert config.head["activation"] == config.auxiliary_head["activation"] == "leaky_relu"
    ohem = config.loss["terms"]["ohem"]
    assert (ohem["threshold"], ohem["min_kept"], ohem["threshold_stride"], ohem["global_batch"]) == (
        0.7,
        100000,
        8,
        False,
    )
    assert (config.optimizer["weight_decay"], config.schedule["final_factor"]) == (1e-4, 0.0)
    evaluation = config.evaluation
    assert (evaluation["crop_size"], evaluation["stride"], evaluation["average"]) == ([769, 769], [513, 513], "logits")
    assert (evaluation["scales"], evaluation["flip"]) == ([1.0], False)


def test_the_official_network_has_the_published_number_of_parameters() -> None:
    """Oracle: 71.288 M in all, 23.93 M in the head and 4.73 M in the auxiliary head, counted on the official code."""
    with torch.device("meta"):
        model = build.build_model(compose_config(["+experiment=cityscapes_r2_ohem_official"]), 19, pretrained=False)
    millions = [
        round(sum(value.numel() for value in part.parameters()) / 1e6, 2)
        for part in (model, model.head, model.auxiliary_head)
    ]
    assert millions == [71.29, 23.93, 4.73]


def test_the_recipe_of_paddleseg() -> None:
    """Oracle: its resolved configuration, and the learning rate that it ends with."""
    config = recipe("cityscapes_r2_ohem_paddleseg")
    require_common(config)
    augmentation, backbone = config.augmentation, config.backbone
    assert (config.model.mean, config.model.std, config.model.channel_order) == ([127.5] * 3, [127.5] * 3, "rgb")
    assert not config.model.align_corners
    assert (augmentation["scale"], augmentation["scale_step"]) == ([0.5, 2.0], 0.25)
    assert [augmentation[key] for key in ("brightness", "contrast", "saturation", "hue")] == [0.4, 0.4, 0.4, 0.05]
    assert augmentation["jitter"] == "apart"
    assert (backbone["depth"], backbone["variant"], backbone["contract_dilation"]) == (101, "v1d", False)
    assert config.auxiliary_head["conv_bias"]
    ohem = config.loss["terms"]["ohem"]
    assert (ohem["threshold"], ohem["min_kept"], ohem["threshold_stride"]) == (0.7, 10000, 1)
    assert config.optimizer["weight_decay"] == 4e-5
    schedule = build.build_part(config.schedule, max_steps=config.trainer.max_steps)
    assert config.optimizer["lr"] * schedule(config.trainer.max_steps) == pytest.approx(1e-4)
    assert (config.evaluation["scales"], config.evaluation["crop_size"]) == ([1.0], None)
