"""The backbones that are torchvision's networks cut at their strides, against torchvision."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import SqueezeExcitation

from ccnet.models.backbones.efficientnet import EfficientNet
from ccnet.models.backbones.features import channels_at, stride_ends
from ccnet.models.backbones.mobilenet_v2 import MobileNetV2
from ccnet.models.backbones.mobilenet_v3 import MobileNetV3
from ccnet.models.backbones.shufflenet_v2 import ShuffleNetV2
from ccnet.models.backbones.vgg import VGG16

Make = tuple[type[Any], dict[str, Any]]

# The last node of torchvision's networks at strides 4, 8, 16 and 32, and its channels; with `last_conv`, and without.
FAMILIES: dict[str, tuple[Make, list[str], list[int]]] = {
    "mobilenet_v3_small": ((MobileNetV3, {"variant": "small"}),
                           ["features.1", "features.3", "features.8", "features.12"], [16, 24, 48, 576]),
    "mobilenet_v3_large": ((MobileNetV3, {"variant": "large", "last_conv": False}),
                           ["features.3", "features.6", "features.12", "features.15"], [24, 40, 112, 160]),
    "mobilenet_v2": ((MobileNetV2, {}),
                     ["features.3", "features.6", "features.13", "features.18"], [24, 32, 96, 1280]),
    "efficientnet_b0": ((EfficientNet, {"variant": "b0"}),
                        ["features.2", "features.3", "features.5", "features.8"], [24, 40, 112, 1280]),
    "shufflenet_v2_x0_5": ((ShuffleNetV2, {"width": "x0_5"}),
                           ["maxpool", "stage2", "stage3", "conv5"], [24, 48, 96, 1024]),
    "shufflenet_v2_x1_0": ((ShuffleNetV2, {"width": "x1_0", "last_conv": False}),
                           ["maxpool", "stage2", "stage3", "stage4"], [24, 116, 232, 464]),
    "vgg16": ((VGG16, {}), ["features.15", "features.22", "features.29", "features.30"], [256, 512, 512, 512]),
    "vgg16_bn": ((VGG16, {"batch_norm": True}),
                 ["features.22", "features.32", "features.42", "features.43"], [256, 512, 512, 512]),
}  # fmt: skip
ODD, EVEN = (1, 3, 67, 49), (1, 3, 64, 96)  # torchvision's VGG rounds odd sizes down, ours up


def build(name: str, output_stride: int) -> nn.Module:
    (family, arguments), _, _ = FAMILIES[name]
    torch.manual_seed(1)
    backbone: nn.Module = family(**arguments, output_stride=output_stride).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return backbone


def torchvision_network(name: str, backbone: nn.Module) -> nn.Module:
    """Torchvision's, which takes the backbone's parameters by torchvision's own names."""
    with torch.device("meta"):  # what the features do not need is never made
        network: nn.Module = get_model(name, weights=None)
    assert not network.load_state_dict(backbone.state_dict(), strict=False, assign=True).unexpected_keys
    return network.eval()


def at_nodes(network: nn.Module, name: str, image: Tensor) -> list[Tensor]:
    _, nodes, _ = FAMILIES[name]
    with torch.no_grad():
        return list(create_feature_extractor(network, nodes)(image).values())


def remove_squeeze(network: nn.Module) -> None:
    """Squeeze-and-excitation averages over all positions, so that no stride can be taken out exactly."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, SqueezeExcitation):
                setattr(module, name, nn.Identity())


@pytest.mark.parametrize("name", FAMILIES)
def test_untouched_at_stride_32(name: str) -> None:
    """Oracle: torchvision's own network, cut at the nodes of the table, with the same parameters."""
    backbone = build(name, 32)
    image = torch.randn(EVEN if name.startswith("vgg") else ODD)
    with torch.no_grad():
        ours = backbone(image)
    for feature, expected in zip(ours, at_nodes(torchvision_network(name, backbone), name, image), strict=True):
        assert torch.equal(feature, expected)
    assert [feature.shape[1] for feature in ours] == backbone.out_channels == FAMILIES[name][2]


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [*((name, 8) for name in FAMILIES if name != "mobilenet_v3_large"), ("shufflenet_v2_x1_0", 16), ("vgg16", 16)],
)
def test_the_strided_network_is_sampled_from_the_dilated_one(name: str, output_stride: int) -> None:
    """Oracle: every (32 / stride)-th position is torchvision's strided network's (a trous); without
    squeeze-and-excitation."""
    backbone = build(name, output_stride)
    network = torchvision_network(name, backbone)
    remove_squeeze(network)
    remove_squeeze(backbone)
    image = torch.randn(EVEN if name.startswith("vgg") else ODD)
    with torch.no_grad():
        ours = backbone(image)
    theirs = at_nodes(network, name, image)
    for feature, expected, full in zip(ours, theirs, (4, 8, 16, 32), strict=True):
        stride = min(full, output_stride)
        assert feature.shape[2:] == tuple(-(-side // stride) for side in image.shape[2:])
        sampled = feature[..., :: full // stride, :: full // stride]
        torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x1_0", "mobilenet_v3_large"])
def test_norm_momentum_reaches_every_norm(name: str) -> None:
    """Oracle: the argument, at every batch norm that the features have."""
    (family, arguments), _, _ = FAMILIES[name]
    with torch.device("meta"):
        backbone = family(**arguments, norm_momentum=0.2)
    assert {m.momentum for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.2}


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x1_0", "vgg16"])
@pytest.mark.parametrize("stride", [4, 64])
def test_other_output_strides_are_refused(name: str, stride: int) -> None:
    """Oracle: the documented ValueError."""
    (family, arguments), _, _ = FAMILIES[name]
    with torch.device("meta"), pytest.raises(ValueError, match=f"8, 16 or 32, got {stride}"):
        family(**arguments, output_stride=stride)


def test_stochastic_depth_grows_with_the_depth() -> None:
    """Oracle: arXiv:1603.09382, the probability of the last block times the share of blocks before it."""
    with torch.device("meta"):
        backbone = EfficientNet("b0", stochastic_depth=0.32)
    rates = [m.p for m in backbone.modules() if type(m).__name__ == "StochasticDepth"]
    assert rates == pytest.approx([0.32 * index / len(rates) for index in range(len(rates))])


def test_ends_and_channels_of_a_series() -> None:
    """Oracle: by hand: the last modules at strides 4, 8, 16 and 32; a pool has the channels of what is before it."""
    halve = [nn.Conv2d(1, 2 + index, 3, stride=2) for index in range(4)]
    series = nn.Sequential(nn.Identity(), *halve[:2], nn.ReLU(), *halve[2:], nn.BatchNorm2d(5), nn.MaxPool2d(2))
    assert stride_ends(series) == [3, 4, 6, 7]
    assert channels_at(series, [3, 4, 6, 7]) == [3, 4, 5, 5]
