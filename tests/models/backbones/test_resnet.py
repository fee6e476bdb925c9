"""ResNet against torchvision's own dilated network and against itself without dilation."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ccnet.models.backbones.resnet import ResNet


def torchvision_features(network: nn.Module, image: Tensor) -> list[Tensor]:
    feature, features = network.maxpool(network.relu(network.bn1(network.conv1(image)))), []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        feature = getattr(network, name)(feature)
        features.append(feature)
    return features


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's names -> ours."""
    names = {"conv1.": "stem.0.", "bn1.": "stem.1.", **{f"layer{i + 1}.": f"stages.{i}." for i in range(4)}}
    ours = {}
    for key, value in state.items():
        prefix = key[: key.index(".") + 1]
        if prefix != "fc.":
            ours[names[prefix] + key[len(prefix) :]] = value
    return ours


@pytest.mark.parametrize(("output_stride", "replaced"), [(8, (False, True, True)), (16, (False, False, True))])
def test_resnet50_equals_the_dilated_one_of_torchvision(output_stride: int, replaced: tuple[bool, ...]) -> None:
    """Oracle: torchvision's replace_stride_with_dilation with the same weights, all four features."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(replace_stride_with_dilation=replaced).eval()
    backbone = ResNet(50, output_stride=output_stride).eval()  # type: ignore[arg-type]
    backbone.load_state_dict(renamed(network.state_dict()))
    image = torch.randn(1, 3, 65, 50)
    with torch.no_grad():
        ours, theirs = backbone(image), torchvision_features(network, image)
    for feature, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert backbone.out_channels == [feature.shape[1] for feature in ours]


@pytest.mark.parametrize(("output_stride", "strides"), [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16)), (32, (4, 8, 16, 32))])
def test_resnet18_sizes_and_receptive_field(output_stride: int, strides: tuple[int, ...]) -> None:
    """Oracle: ceil(n / stride); every (32 / stride)-th position is the untouched torchvision network's (a trous)."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18().eval()
    backbone = ResNet(18, output_stride=output_stride).eval()  # type: ignore[arg-type]
    backbone.load_state_dict(renamed(network.state_dict()))
    image = torch.randn(1, 3, 97, 75)
    with torch.no_grad():
        ours, theirs = backbone(image), torchvision_features(network, image)
    for feature, expected, stride, full in zip(ours, theirs, strides, (4, 8, 16, 32), strict=True):
        assert feature.shape[-2:] == (-(-97 // stride), -(-75 // stride))
        step = full // stride
        sampled = feature[..., ::step, ::step]
        torch.testing.assert_close(sampled, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert backbone.out_channels == [feature.shape[1] for feature in ours] == [64, 128, 256, 512]
    assert backbone.output_stride == output_stride == strides[-1]


def test_norm_momentum_reaches_every_norm() -> None:
    """Oracle: the number of batch norms of torchvision's network."""
    norms = [m for m in ResNet(18, norm_momentum=0.03).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in torchvision.models.resnet18().modules())
    assert {norm.momentum for norm in norms} == {0.03}
