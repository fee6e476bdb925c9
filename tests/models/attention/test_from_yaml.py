"""A run's `attention:` section, from the configuration to the checkpoint and back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ccnet import checkpoint
from ccnet.build import build_model
from ccnet.build_training import rehearse
from ccnet.config import compose_config, to_json
from ccnet.errors import CheckpointError, ConfigError
from ccnet.loaded_model import load_model
from ccnet.models.attention.dual import DualAttention
from ccnet.models.attention.insertion import INSERTED
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.segmentor import Segmentor
from ccnet.optim import parameter_groups
from ccnet.run import about
from ccnet.schema import RunConfig

BACKBONE = ["backbone=patches", "backbone.channels=16", "head.channels=16"]


def composed(*overrides: str) -> RunConfig:
    return compose_config([*BACKBONE, *overrides])


def built(*overrides: str) -> Segmentor:
    return build_model(composed(*overrides), 19, pretrained=False)


def inserted(model: Segmentor) -> dict[str, torch.nn.Module]:
    """The new layers by the names of their places in the backbone."""
    suffix = f".{INSERTED}"
    found = model.backbone.named_modules()
    return {name.removesuffix(suffix): module for name, module in found if name.endswith(suffix)}


@pytest.mark.parametrize("at", ["attention.at=stages.3", "+attention.at=stages.3", "attention={at: stages.3}"])
def test_every_way_of_the_command_line(at: str) -> None:
    """Oracle: the attribute values of the layer in the place that was named."""
    layers = inserted(built(at, "attention.alpha=0.25"))
    assert list(layers) == ["stages.3"]
    assert isinstance(layers["stages.3"], DualAttention)
    assert (layers["stages.3"].alpha, layers["stages.3"].beta) == (0.25, 1)


def test_lists_of_globs_and_other_kinds() -> None:
    """Oracle: the places by hand. Without `at` there is nothing."""
    layers = inserted(built("attention={at: [stages.1, 'stages.[03]'], kind: criss_cross, mode: after}"))
    assert list(layers) == ["stages.0", "stages.1", "stages.3"]
    assert all(isinstance(layer, CrissCrossAttention) for layer in layers.values())
    assert inserted(built()) == {}


@pytest.mark.parametrize("at", ["stage4.1", "stage4.3", "stage2.1", "stage4.*"])
def test_split_blocks_of_shufflenet(at: str) -> None:
    """Oracle: the channels of the articles' table: 464 in stage 4, 116 in stage 2; half of them is what the blocks'
    first convolutions see."""
    config = compose_config(["backbone=shufflenet_v2", "head.channels=16", f"attention.at={at}"])
    with torch.device("meta"):
        layers = inserted(build_model(config, 19, pretrained=False))
    assert list(layers) == [at.replace("*", str(index)) for index in range(4 if "*" in at else 1)]
    for name, layer in layers.items():
        assert isinstance(layer, DualAttention)
        assert next(layer.parameters()).shape[1] == (464 if name.startswith("stage4") else 116)


def test_the_network_around_it_is_the_plain_one() -> None:
    """Oracle: the names without; the answer has its shape, and the gradient reaches the attention."""
    plain, model = built(), built("attention.at=stages.3")
    new = model.state_dict().keys() - plain.state_dict().keys()
    assert all(name.startswith(f"backbone.stages.3.{INSERTED}.") for name in new)
    assert not plain.state_dict().keys() - model.state_dict().keys()
    image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    logits = model(image).logits
    assert logits.shape == plain(image).logits.shape
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_new_layers_learn_like_the_heads() -> None:
    """Oracle: the groups by hand: the backbone's own numbers alone have its learning rate."""
    model = built("attention.at=stages.3")
    rates = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, 0.1, 0.5, head_lr_factor=10)
        for parameter in group["params"]
    }
    for name, parameter in model.named_parameters():
        lr = 0.1 if name.startswith("backbone.") and INSERTED not in name else 1.0
        assert rates[id(parameter)] == (lr, 0.5 if parameter.ndim > 1 else 0.0), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["attention.at=stage.1"], "attention.at=stage.1 names no module of Patches; nearest are stages.1"),
        (["attention={at: stages.1, mode: replace}"], "attention.at=stages.1: PatchConv makes 16x32x32 of 16x64x64"),
        (["attention={at: stages.3, alpha: 2}"], r"attention.at=stages.3: alpha must lie in 0..1, got 2.0"),
        (["attention={at: stages.3, reduction: 7, kind: criss_cross}"], "channels must be a multiple of reduction=7"),
        (["attention={at: stages.3, preset: detection, beta: 0.5}"], "preset=detection sets alpha and beta"),
    ],
)
def test_mistakes_stop_before_any_data(words: list[str], message: str) -> None:
    """Oracle: the documented error of the rehearsal, which touches no data."""
    with pytest.raises(ConfigError, match=message):
        rehearse(composed(*words))


def saved(folder: Path, config: RunConfig, **attention: Any) -> tuple[Path, Segmentor]:
    """A checkpoint, whose stored configuration may say something else of the attention."""
    model = build_model(config, 2, pretrained=False)
    meta = {**about(config, ["street", "sky"], [(0, 0, 0)] * 2), "step": 1, "score": None}
    meta["config"] = to_json(config)
    meta["config"]["attention"] |= attention
    return checkpoint.save(folder, model, torch.optim.SGD(model.parameters(), lr=0.1), meta), model


def test_a_checkpoint_brings_it_back(tmp_path: Path) -> None:
    """Oracle: the model that was saved."""
    path, model = saved(tmp_path, composed("attention={at: [stages.2], mode: replace, preset: segmentation}"))
    loaded = load_model(path, torch.device("cpu"))
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    assert torch.equal(loaded.model(image).logits, model.eval()(image).logits)
    assert loaded.config.attention.at == ["stages.2"]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"at": ["stages.3"] * 65}, "attention.at must be a glob, up to 64 in a list"),
        ({"at": "*" * 100_000}, "beyond all measure"),
        ({"at": "*" * 300}, "attention.at must be a glob"),
        ({"at": {"layer": "os.remove"}}, "attention.at must be a glob"),
        ({"at": "*.*.*"}, "made for another model"),
        ({"kind": "criss_cross"}, "made for another model"),
        ({"reduction": 1}, "made for another model"),
        ({"reduction": -1}, "reduction must be at least 1"),
        ({"reduction": 10**40}, "made for another model"),
        ({"dropout": float("nan")}, "dropout must lie in 0..1"),
    ],
)
def test_what_a_stranger_stores(tmp_path: Path, attention: dict[str, Any], message: str) -> None:
    """Oracle: one line, before the network takes memory: nothing but the layers whose weights are there is built."""
    path, _ = saved(tmp_path, composed("attention.at=stages.3"), **attention)
    with pytest.raises((ConfigError, CheckpointError), match=message):
        load_model(path, torch.device("cpu"))
