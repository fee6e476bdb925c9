"""ResNet against torchvision's own dilated network, against itself without dilation, and its variants by hand."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.errors import CheckpointError
from ccnet.models.backbones.resnet import ResNet
from tests.importers.parity import shapes_of


def torchvision_features(network: nn.Module, image: Tensor) -> list[Tensor]:
    feature, features = network.maxpool(network.relu(network.bn1(network.conv1(image)))), []
    for name in ("layer1", "layer2", "layer3", "layer4"):
        feature = getattr(network, name)(feature)
        features.append(feature)
    return features


def without_classifier(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}


@pytest.mark.parametrize(("output_stride", "replaced"), [(8, (False, True, True)), (16, (False, False, True))])
def test_resnet50_equals_the_dilated_one_of_torchvision(output_stride: int, replaced: tuple[bool, ...]) -> None:
    """Oracle: torchvision's replace_stride_with_dilation with the same weights, all four features."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(replace_stride_with_dilation=replaced).eval()
    backbone = ResNet(50, output_stride=output_stride).eval()  # type: ignore[arg-type]
    backbone.load_state_dict(without_classifier(network))
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
    backbone.load_state_dict(without_classifier(network))
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


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_names_and_shapes_are_those_of_torchvision(depth: int) -> None:
    """Oracle: torchvision's state dict without its classifier, in its order: files need no translation."""
    with torch.device("meta"):
        network = getattr(torchvision.models, f"resnet{depth}")()
        backbone = ResNet(depth)  # type: ignore[arg-type]
    shapes = {key: value.shape for key, value in backbone.state_dict().items()}
    assert list(shapes.items()) == [(key, value.shape) for key, value in without_classifier(network).items()]
    assert [name for name, _ in backbone.named_children()][:4] == ["conv1", "bn1", "relu", "maxpool"]


@pytest.mark.parametrize(
    ("reference", "prefix", "options"),
    [("official_r2", "", {"variant": "ccnet", "contract_dilation": False}),
     ("mmseg_r101_r2", "backbone.", {"variant": "v1c"})],
)  # fmt: skip
def test_names_and_shapes_are_those_of_the_references(reference: str, prefix: str, options: dict[str, object]) -> None:
    """Oracle: the state dicts of the official CCNet and of mmsegmentation."""
    heads = ("head.", "dsn.", "decode_head.", "auxiliary_head.")
    shapes = shapes_of(reference)
    theirs = {key.removeprefix(prefix): shape for key, shape in shapes.items() if not key.startswith(heads)}
    with torch.device("meta"):
        state = ResNet(101, **options).state_dict()  # type: ignore[arg-type]
    assert theirs == {k: tuple(v.shape) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def test_the_first_block_of_a_stage_is_dilated_like_the_others_where_that_is_asked() -> None:
    """Oracle: the rule of the official code, 2 and 4 everywhere, and torchvision's, 1 and 2 in the first blocks."""
    for contract, expected in ((True, [(1, 2, 2), (2, 4, 4)]), (False, [(2, 2, 2), (4, 4, 4)])):
        with torch.device("meta"):
            backbone = ResNet(50, contract_dilation=contract)
        for stage, rates in zip((backbone.layer3, backbone.layer4), expected, strict=True):
            convs = [block.conv2 for block in list(stage)[:3]]
            assert [conv.dilation[0] for conv in convs] == [conv.padding[0] for conv in convs] == list(rates)
            assert {conv.stride for conv in convs} == {(1, 1)}
        assert {conv.dilation for block in backbone.layer2 for conv in (block.conv1, block.conv2)} == {(1, 1)}


def test_the_stem_of_ccnet_rounds_sizes_up() -> None:
    """Oracle: the sizes of the official network: 1024x2048 is 129x257 at stride 8, 769 is 97 and 768, too."""
    with torch.device("meta"):
        backbone = ResNet(50, variant="ccnet", contract_dilation=False)
        sizes = {n: backbone(torch.empty(1, 3, n, n))[-1].shape[-1] for n in (768, 769, 1024, 2048)}
    assert sizes == {768: 97, 769: 97, 1024: 129, 2048: 257}


def mmseg_stage(stage: nn.Sequential, x: Tensor, dilations: list[int]) -> Tensor:
    """Basic blocks of mmsegmentation in eval mode with the weights of ours; those of a shortcut are the last two."""

    def norm(layer: nn.Module, x: Tensor) -> Tensor:
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    for block, rate in zip(stage, dilations, strict=True):
        y = F.relu(norm(block.bn1, F.conv2d(x, block.conv1.weight, padding=rate, dilation=rate)))
        y = norm(block.bn2, F.conv2d(y, block.conv2.weight, padding=1))
        if block.downsample is not None:
            x = norm(block.downsample[-1], F.conv2d(x, block.downsample[-2].weight))
        x = F.relu(x + y)
    return x


@pytest.mark.parametrize(("variant", "contract"), [("v1c", True), ("v1c", False), ("v1d", True)])
def test_basic_blocks_of_mmsegmentation_dilate_their_first_convolution_alone(variant: str, contract: bool) -> None:
    """Oracle: mmsegmentation's BasicBlock and stage written out: conv1 has the dilation, conv2 padding 1 and none; the
    first blocks have half of it where that is contracted."""
    torch.manual_seed(0)
    backbone = ResNet(34, variant=variant, contract_dilation=contract).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        _, second, third, fourth = backbone(torch.randn(1, 3, 64, 72))
        for stage, x, found, rate in ((backbone.layer3, second, third, 2), (backbone.layer4, third, fourth, 4)):
            expected = mmseg_stage(stage, x, [rate // 2 if contract else rate, *[rate] * (len(stage) - 1)])
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("size", [(16, 20), (17, 23)])
def test_the_shortcut_of_v1d_is_an_average_and_a_1x1_convolution(size: tuple[int, int]) -> None:
    """Oracle: F.avg_pool2d with counts of real pixels, and the same convolution without a stride."""
    torch.manual_seed(0)
    backbone = ResNet(18, output_stride=32, variant="v1d").eval()
    block, x = backbone.layer2[0], torch.randn(2, 64, *size)
    pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
    shortcut = F.conv2d(pooled, block.downsample[1].weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block.downsample(x), shortcut)
    long_way = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(block(x), F.relu(long_way + shortcut))
    assert "layer1.0.downsample.1.weight" in ResNet(50, variant="v1d").state_dict()  # as in mmsegmentation


def test_no_average_is_left_where_a_stage_lost_its_stride() -> None:
    """Oracle: strides of the shortcuts' averages: 2 in layer2 alone at output stride 8."""
    with torch.device("meta"):
        backbone = ResNet(50, variant="v1d")
    stages = (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4)
    assert [stage[0].downsample[0].kernel_size for stage in stages] == [(1, 1), (2, 2), (1, 1), (1, 1)]


def test_a_variant_reads_its_own_file_and_no_other(tmp_path: Path) -> None:
    """Oracle: the other network's features; another variant's file and DEFAULT are refused with the reason."""
    torch.manual_seed(0)
    first = ResNet(18, variant="v1c").eval()
    file = str(tmp_path / "v1c.safetensors")
    save_file(first.state_dict(), file)
    second, image = ResNet(18, variant="v1c", weights=file).eval(), torch.randn(1, 3, 33, 40)
    assert torch.equal(first(image)[-1], second(image)[-1])
    with pytest.raises(CheckpointError, match=r"missing conv1\.weight"):
        ResNet(18, weights=file)
    for variant in ("v1c", "v1d", "ccnet"):
        with pytest.raises(CheckpointError, match=f"no tag of resnet50_{variant}"):
            ResNet(50, variant=variant, weights="DEFAULT")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("depth", "variant", "first"), [(18, "plain", "conv1"), (18, "v1c", "stem.0"), (50, "ccnet", "conv1")]
)
def test_other_numbers_of_channels(depth: int, variant: str, first: str, tmp_path: Path) -> None:
    """Oracle: a grey image in one channel gets the features that it gets in three, and a random network takes five."""
    three = ResNet(depth, variant=variant).eval()  # type: ignore[arg-type]
    save_file(three.state_dict(), tmp_path / "three.safetensors")
    one = ResNet(depth, variant=variant, in_channels=1, weights=str(tmp_path / "three.safetensors")).eval()  # type: ignore[arg-type]
    grey = torch.randn(1, 1, 33, 40)
    torch.testing.assert_close(one(grey)[0], three(grey.expand(-1, 3, -1, -1))[0], rtol=1e-4, atol=1e-4)
    with torch.device("meta"):
        five = ResNet(depth, variant=variant, in_channels=5)  # type: ignore[arg-type]
    assert five.state_dict()[f"{first}.weight"].shape[1] == 5


def test_variants_that_do_not_exist() -> None:
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match="variant must be one of plain, v1c, v1d, ccnet, got v2"):
        ResNet(50, variant="v2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"set backbone\.depth to 50, 101 or 152"):
        ResNet(18, variant="ccnet")


def test_norm_momentum_reaches_every_norm() -> None:
    """Oracle: the number of batch norms of torchvision's network."""
    norms = [m for m in ResNet(18, norm_momentum=0.03).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in torchvision.models.resnet18().modules())
    assert {norm.momentum for norm in norms} == {0.03}
