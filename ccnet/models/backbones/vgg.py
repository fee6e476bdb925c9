"""VGG-16 (arXiv:1409.1556) on torchvision's layers, at a fine output stride."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.backbones.dilation import dilate
from ccnet.models.backbones.features import channels_at, features_at, stride_ends
from ccnet.models.backbones.weights import load_weights, replace_first_conv


class VGG16(nn.Module):
    """What the third, fourth and fifth groups of convolutions give, at strides 4, 8 and 16, and the last pool, at 32;
    torchvision's names.

    At output stride 8 the last two pools, at 16 the last one, keep the size: the pools and the convolutions behind them
    are dilated, as DeepLab (arXiv:1412.7062) does with the convolutions. Pools round odd sizes up; torchvision's round
    down.

    Args:
        batch_norm: behind every convolution; vgg16_bn.
        output_stride: 8, 16 or 32.
        weights: null (random), a tag of torchvision's (DEFAULT, IMAGENET1K_V1, IMAGENET1K_FEATURES) or a file.
        in_channels: of the image; a pretrained first convolution is adapted as `adapt_first_conv` says.

    Raises:
        ValueError: another output stride.
    """

    def __init__(
        self,
        batch_norm: bool = False,
        output_stride: Literal[8, 16, 32] = 8,
        weights: str | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        self.features = make_layers(cfgs["D"], batch_norm)  # without the classifier's 124 million numbers
        _initialise(self.features)
        replace_first_conv(self, "features.0", in_channels)
        self.architecture = "vgg16_bn" if batch_norm else "vgg16"
        load_weights(self, self.architecture, weights, first_conv="features.0")
        self.ends = stride_ends(self.features)
        _keep_fine(self.features, output_stride)
        self.out_channels = channels_at(self.features, self.ends)
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features from fine to coarse."""
        return features_at(self.features, self.ends, image_BCHW)


class DilatedMaxPool(nn.Module):
    """2x2 max pooling with its stride taken out: every position takes the maximum of itself and of its neighbours
    `dilation` further down and right. At the end there are none, as for a strided pool that rounds up."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        padded = F.pad(x_BCHW, (0, self.dilation, 0, self.dilation), value=-torch.inf)
        return F.max_pool2d(padded, 2, stride=1, dilation=self.dilation)


def _initialise(features: nn.Sequential) -> None:
    for module in features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _keep_fine(features: nn.Sequential, output_stride: int) -> None:
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    stride, rate = 1, 1
    for index, module in enumerate(features):
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
            if stride < output_stride:
                stride *= 2
            else:
                features[index] = DilatedMaxPool(rate)
                rate *= 2
        elif isinstance(module, nn.Conv2d):
            dilate(module, rate)
