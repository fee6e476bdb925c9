"""ResNet (arXiv:1512.03385) on torchvision at a fine output stride, and variants of its stem and shortcuts."""

from typing import Any, Literal, get_args

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate, dilate_to, set_norm_momentum
from ccnet.models.backbones.weights import load_weights, replace_first_conv

Variant = Literal["plain", "v1c", "v1d", "ccnet"]
CCNET_STEM_CHANNELS = 128


class ResNet(nn.Module):
    """Features of the four stages: strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them.

    Names and shapes of the state are those of files that are about: torchvision's for plain, mmsegmentation's for v1c
    and v1d, the official CCNet's for ccnet. So is the dilation of the basic blocks of depths 18 and 34: both
    convolutions in plain, as the a trous rule has it, the first one alone in v1c and v1d, as in mmsegmentation.

    Args:
        depth: 18, 34, 50, 101 or 152; the stride of a bottleneck is that of its 3x3 convolution.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        variant: plain; v1c has three 3x3 convolutions of 32, 32 and 64 channels in the place of the 7x7 one, v1d
            averages where a shortcut has a stride, too (arXiv:1812.01187); ccnet has three of 64, 64 and 128 and a
            pooling that rounds sizes up.
        contract_dilation: the first block of a stage that lost its stride is dilated by what came before it (1 and 2 at
            stride 8), as in torchvision and mmsegmentation; false dilates it like the others (2 and 4), as in the
            official CCNet and PaddleSeg.
        in_channels: of the image.
        weights: null (random), one of torchvision's tags such as DEFAULT, or a file.
        norm_momentum: of the running statistics.

    Raises:
        ValueError: an unknown variant; ccnet at depth 18 or 34, which have no bottlenecks.
        CheckpointError: weights that are not there or do not fit; the variants have no tags.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50, 101, 152],
        output_stride: Literal[8, 16, 32] = 8,
        variant: Variant = "plain",
        contract_dilation: bool = True,
        in_channels: int = 3,
        weights: str | None = None,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        if variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}, got {variant}")
        network = get_model(f"resnet{depth}", weights=None)
        stem = _stem(variant, network)
        for name, layer in stem.items():
            self.add_module(name, layer)
        self.flow = [*stem, "layer1", "layer2", "layer3", "layer4"]
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        stages = [self.layer1, self.layer2, self.layer3, self.layer4]
        dilate_to(output_stride, stages[2:])
        for stage in stages:
            if variant in ("v1c", "v1d"):
                _dilate_first_convs_alone(stage)
            if not contract_dilation:
                _dilate_first_block(stage)
            if variant == "v1d":
                _average_shortcut(stage[0])
        first_conv = "stem.0" if variant in ("v1c", "v1d") else "conv1"
        replace_first_conv(self, first_conv, in_channels)
        self.architecture = f"resnet{depth}" if variant == "plain" else f"resnet{depth}_{variant}"
        load_weights(self, self.architecture, weights, first_conv=first_conv)
        set_norm_momentum(self, norm_momentum)
        expansion = self.layer1[0].expansion
        self.out_channels = [64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion]
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features from fine to coarse."""
        feature, features = image_BCHW, []
        for name in self.flow:
            feature = self.get_submodule(name)(feature)
            if name.startswith("layer"):
                features.append(feature)
        return features


def _stem(variant: Variant, network: Any) -> dict[str, nn.Module]:
    """Everything before layer1 of torchvision's network, by name and in order."""
    if variant == "plain":
        return {"conv1": network.conv1, "bn1": network.bn1, "relu": network.relu, "maxpool": network.maxpool}
    if variant in ("v1c", "v1d"):
        return {"stem": nn.Sequential(*_three_convs(32, 32, 64)), "maxpool": network.maxpool}
    _widen(network.layer1[0])
    names = ("conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "conv3", "bn3", "relu3")
    layers = _three_convs(64, 64, CCNET_STEM_CHANNELS)
    pooling = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, ceil_mode=True)
    return {**dict(zip(names, layers, strict=True)), "maxpool": pooling}


def _three_convs(*channels: int) -> list[nn.Module]:
    """3x3 convolutions, each with its norm and ReLU; the first has stride 2."""
    layers: list[nn.Module] = []
    for width, out, stride in zip((3, *channels), channels, (2, 1, 1), strict=False):
        layers += [_conv(width, out, 3, stride), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return layers


def _widen(block: Any) -> None:
    """Makes layer1's first block take the channels of CCNet's stem."""
    if block.expansion == 1:
        raise ValueError("variant ccnet has bottlenecks: set backbone.depth to 50, 101 or 152")
    for convs, name in ((block, "conv1"), (block.downsample, "0")):
        setattr(convs, name, _conv(CCNET_STEM_CHANNELS, getattr(convs, name).out_channels, 1))


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's others
    return conv


def _dilate_first_convs_alone(stage: Any) -> None:
    """Takes the dilation out of the second convolution of basic blocks."""
    for block in stage:
        if block.expansion == 1:
            dilate(block.conv2, 1)


def _dilate_first_block(stage: nn.Sequential) -> None:
    """Gives the first block the dilation of the last one."""
    for name, conv in stage[0].named_children():
        if isinstance(conv, nn.Conv2d):
            last = getattr(stage[-1], name)
            conv.dilation, conv.padding = last.dilation, last.padding


def _average_shortcut(block: Any) -> None:
    """Puts the stride of a shortcut's convolution into an average before it, which is there at stride 1, too: its place
    counts in the names of mmsegmentation's files."""
    if block.downsample is None:  # basic blocks in layer1
        return
    conv, norm = block.downsample
    average = nn.AvgPool2d(conv.stride, conv.stride, ceil_mode=True)
    conv.stride = (1, 1)
    block.downsample = nn.Sequential(average, conv, norm)
