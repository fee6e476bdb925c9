"""The articles' placements, in torchvision's networks: forward, backward, and plain weights that keep loading."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection

from ccnet.models.attention import PyramidFusion, attach, insert_attention
from ccnet.models.attention.insertion import INSERTED


def small_vgg16() -> nn.Module:
    """VGG16 with a classifier of 50 thousand instead of 124 million numbers."""
    with torch.device("meta"):
        network = torchvision.models.vgg16()
        network.classifier = nn.Linear(512 * 49, 2)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.02)
    return network


def size_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def require_gradients(network: nn.Module, loss: Tensor) -> None:
    """A gradient reaches everything that trains, the new layers above all, and nothing else."""
    loss.backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if INSERTED in name:
            assert parameter.grad.isfinite().all()
    assert any(p.grad.any() for name, p in network.named_parameters() if INSERTED in name)


def test_vgg16_after_conv5_3_with_conv1_to_conv4_frozen() -> None:
    """Oracle: 66 625 new numbers, gradients behind conv4 alone, and the plain network once the strengths are 0."""
    plain = small_vgg16()
    network = copy.deepcopy(plain)
    network.features[:24].requires_grad_(False)
    assert insert_attention(network, "features.28", preset="classification") == ["features.28"]
    assert size_of(network) - size_of(plain) == 66_625
    require_gradients(network, network(torch.rand(2, 3, 32, 32)).square().sum())
    loaded = network.load_state_dict(plain.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    assert all(INSERTED in key for key in loaded.missing_keys)
    attention = network.features[28].get_submodule(INSERTED)
    attention.alpha = attention.beta = 0
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(network.eval()(image), plain.eval()(image))


@pytest.mark.long
def test_the_whole_vgg16() -> None:
    """Oracle: the gradients, as above."""
    network = torchvision.models.vgg16()
    insert_attention(network, "features.28")
    require_gradients(network, network(torch.rand(1, 3, 32, 32)).square().sum())


def test_resnet50_with_the_second_block_of_stage_4_replaced() -> None:
    """Oracle: the numbers of DualAttention(2048) in the place of the block's; the others load from the plain one."""
    network = torchvision.models.resnet50()
    state, block, before = network.state_dict(), size_of(network.layer4[1]), size_of(network)
    insert_attention(network, "layer4.1", mode="replace", preset="classification")
    assert size_of(network) - before == 2048 * 256 + 256 + 256 * 2048 + 2048 + 2049 - block
    loaded = network.load_state_dict(state, strict=False)
    assert all(key.startswith("layer4.1.") for key in (*loaded.unexpected_keys, *loaded.missing_keys))
    require_gradients(network, network(torch.rand(2, 3, 64, 64)).square().sum())


@pytest.mark.parametrize("kind", ["dual_light", "channel", "criss_cross"])
def test_mobilenet_v3(kind: Any) -> None:
    """Oracle: every inverted residual of 40 channels has attention; plain weights load."""
    network = torchvision.models.mobilenet_v3_large(num_classes=2)
    state = network.state_dict()
    assert insert_attention(network, "features.[456]", kind) == [f"features.{index}" for index in (4, 5, 6)]
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    require_gradients(network, network(torch.rand(2, 3, 64, 64)).square().sum())


def check_detector(make: Callable[..., Any], at: list[str], kind: Any) -> None:
    """Losses and boxes of a detector with attention, and with fusion behind its pyramid."""
    network = make(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64)
    state = network.state_dict()
    insert_attention(network, at, kind, preset="detection")
    levels = len(network.backbone(torch.rand(1, 3, 64, 64)))
    attach(network.backbone.fpn, PyramidFusion([256] * levels))
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 50.0]]), "labels": torch.tensor([1])}] * 2
    losses = network([torch.rand(3, 64, 64), torch.rand(3, 48, 64)], targets)
    require_gradients(network, torch.stack(list(losses.values())).sum())
    boxes = network.eval()([torch.rand(3, 64, 64)])[0]["boxes"]
    assert boxes.ndim == 2
    assert boxes.isfinite().all()


def test_faster_rcnn_with_a_light_backbone() -> None:
    """Oracle: gradients of all four losses; the names of torchvision's body and pyramid."""
    at = ["backbone.body.13", "backbone.body.16", "backbone.fpn.layer_blocks.*"]
    check_detector(detection.fasterrcnn_mobilenet_v3_large_320_fpn, at, "dual_light")


@pytest.mark.long
def test_faster_rcnn_with_resnet50() -> None:
    """Oracle: as above."""
    at = ["backbone.body.layer4.1", "backbone.body.layer3", "backbone.fpn.layer_blocks.*"]
    check_detector(detection.fasterrcnn_resnet50_fpn, at, "dual")
