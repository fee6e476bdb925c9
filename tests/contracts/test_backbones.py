"""What the rest relies on, for every backbone that YAML offers.

Shapes, names and channels are looked at on the meta device, where nothing is computed. What has to be computed is, of
light networks by default and of all with `-m long`.
"""

import hashlib
import inspect
import json
import logging
import re
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hydra.utils import get_object
from safetensors.torch import save_file
from torch import nn

from ccnet.build import build_part
from ccnet.config_errors import CONFIG_DIR
from ccnet.errors import ConfigError
from ccnet.model_table import pretrained_weights
from ccnet.training.modes import freeze_norms, training_mode
from tests.contracts.conftest import names, part

# Too large to be computed by default; and those that differ from others by their depth or width alone.
HEAVY = ("efficientnet_b[1-4]", "hrnet*", "mobilenetv4_conv_medium", "resnest*", "resnet*", "timm", "vgg*")
DEEPER = ("efficientnet_b[1-4]", "mobilenetv4_conv_medium", "resnest101", "resnet34", "resnet101*", "resnet152")
ALL, LIGHT, SHAPES = names("backbone"), names("backbone", long=HEAVY), names("backbone", long=DEEPER)
STATES = json.loads(Path(__file__).with_name("backbone_states.json").read_text())


def build(name: str, **changes: Any) -> nn.Module:
    """A backbone by the name of its YAML; a test of one that needs a package that is not there is skipped."""
    try:
        backbone: nn.Module = build_part({**part("backbone", name), **changes})
    except ConfigError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
    return backbone


@cache
def on_meta(name: str, stride: int | None = None) -> nn.Module | str:
    """A backbone without data in evaluation mode, or why it cannot have the stride."""
    with torch.device("meta"):
        try:
            return build(name, **({} if stride is None else {"output_stride": stride})).eval()
        except ConfigError as error:
            return str(error)


def shapes(backbone: nn.Module | str) -> dict[str, list[int]]:
    assert isinstance(backbone, nn.Module), backbone
    return {key: list(value.shape) for key, value in backbone.state_dict().items()}


def sides(name: str) -> tuple[int, int]:
    """Of an odd image. The official CCNet's pooling gives a position more at sides other than 8 k + 1."""
    return (65, 97) if name.endswith("_ccnet") else (67, 97)


def hold(name: str, backbone: Any, stride: int) -> None:
    """Oracle: the shapes at an odd size, ceil(side / stride)."""
    as_it_is = patch("torch.nn.functional.batch_norm", lambda x, *_, **__: x)  # half of the time, and keeps shapes
    with torch.no_grad(), as_it_is:
        features = backbone(torch.empty(1, 3, *sides(name), device="meta"))
    assert [feature.shape[1] for feature in features] == list(backbone.out_channels)
    strides = [min(stride, full) for full in (4, 8, 16, 32)]
    assert [tuple(f.shape[2:]) for f in features] == [tuple(-(-side // s) for side in sides(name)) for s in strides]
    assert backbone.output_stride == stride


def test_stored_states_are_of_backbones_that_are_there() -> None:
    """Oracle: the YAML files' names."""
    assert list(STATES) == sorted(STATES)
    assert STATES.keys() <= {path.stem for path in (CONFIG_DIR / "backbone").glob("*.yaml")}


@pytest.mark.parametrize("name", ALL)
def test_channels_and_stride_are_the_declared_ones(name: str) -> None:
    """Oracle: the YAML's stride, and the shapes (`hold`)."""
    backbone = on_meta(name)
    assert isinstance(backbone, nn.Module), backbone
    hold(name, backbone, part("backbone", name)["output_stride"])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_every_stride(name: str, stride: int) -> None:
    """Oracle: the shapes (`hold`). A network that lacks a stride names those that it has, the YAML's among them."""
    backbone = on_meta(name, stride)
    if isinstance(backbone, str):
        own = part("backbone", name)["output_stride"]
        assert re.search(rf"output_stride={stride}: .* can have .*\b{own}\b", backbone)
    else:
        hold(name, backbone, stride)


@pytest.mark.parametrize("name", LIGHT)
def test_shapes_are_the_computed_ones(name: str) -> None:
    """Oracle: the shapes on the meta device."""
    backbone = build(name).eval()
    with torch.no_grad():
        features = [feature.shape for feature in backbone(torch.randn(1, 3, 33, 47))]
    assert features == [feature.shape for feature in backbone.to("meta")(torch.empty(1, 3, 33, 47, device="meta"))]


@pytest.mark.parametrize("name", LIGHT)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    """Oracle: a gradient that is there and not all zero; DistributedDataParallel wants it too."""
    backbone = build(name)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):  # timm begins with 0 at the end of a block, and nothing comes through
            nn.init.ones_(norm.weight)
    features = backbone(torch.randn(2, 3, 64, 96))
    # Squares: the sum of what a batch normalisation gives is constant.
    torch.stack([feature.square().mean() for feature in features]).sum().backward()
    without = [key for key, value in backbone.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@pytest.mark.parametrize("name", LIGHT)
def test_weights_come_back_from_a_file(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the state dict that was saved, and the number of its tensors in the report."""
    state, path = build(name).state_dict(), tmp_path / "weights.safetensors"
    save_file(state, path)
    with caplog.at_level(logging.INFO, logger="ccnet"):
        loaded = build(name, weights=str(path)).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())
    assert caplog.messages[-1].endswith(f": {len(state)} of {len(state)} tensors loaded from {path}")


@pytest.mark.parametrize("name", STATES)
def test_the_table_of_models_lists_its_weights(name: str) -> None:
    """Oracle: by hand: all have pretrained weights but these."""
    backbone = on_meta(name)
    assert isinstance(backbone, nn.Module), backbone
    has_none = name == "patches" or name.endswith(("_v1c", "_v1d", "_ccnet"))
    assert ("DEFAULT" in pretrained_weights(backbone)) != has_none


@pytest.mark.parametrize("name", ALL)
def test_names_and_shapes_of_the_state_stay(name: str) -> None:
    """Oracle: what they were when the digest was stored; otherwise old checkpoints no longer load.

    Where the change is meant, or the backbone is new, put the printed line into backbone_states.json.
    """
    found = hashlib.sha256(json.dumps(shapes(on_meta(name)), sort_keys=True).encode()).hexdigest()[:16]
    if name not in STATES:
        pytest.skip(f'new; so that its names stay: "{name}": "{found}"')
    assert STATES[name] == found, f'"{name}": "{found}"'


@pytest.mark.parametrize("name", LIGHT)
def test_with_frozen_norms_training_is_evaluation(name: str) -> None:
    """Oracle: the features in evaluation mode, to the bit, and the norms' statistics as they were."""
    changes = {key: 0.0 for key in ("stochastic_depth",) if key in part("backbone", name)}
    backbone = build(name, **changes)
    freeze_norms(backbone)
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        evaluated = backbone.eval()(image)
        training_mode(backbone)
        assert backbone.training
        trained = backbone(image)
    assert all(torch.equal(left, right) for left, right in zip(trained, evaluated, strict=True))


@pytest.mark.parametrize("name", SHAPES)
def test_any_number_of_channels(name: str) -> None:
    """Oracle: the state for three channels: only kernels that read the image differ, and by their channels alone."""
    if "in_channels" not in inspect.signature(get_object(part("backbone", name)["_target_"])).parameters:
        pytest.skip("takes RGB alone")
    with torch.device("meta"):
        three, five = shapes(on_meta(name)), shapes(build(name, in_channels=5))
    assert three.keys() == five.keys()
    changed = {key: (three[key], five[key]) for key in three if three[key] != five[key]}
    assert changed
    assert all(five == [out, 5, *kernel] for (out, _, *kernel), five in changed.values())


@pytest.mark.parametrize("name", names("backbone", long=("[!p]*",)))
def test_it_can_be_exported(name: str) -> None:
    """Oracle: the eager answer, from the exported program at another size than it was exported at."""
    backbone = build(name).eval()
    free = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(backbone, (torch.randn(1, 3, 64, 96),), dynamic_shapes=(free,))
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for exported, eager in zip(program.module()(image), backbone(image), strict=True):
            torch.testing.assert_close(exported, eager)
