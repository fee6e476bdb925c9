"""Convolution, normalisation, activation."""

from torch import nn


class ConvNormAct(nn.Sequential):
    """A convolution of stride 1 that keeps the size, batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def separable_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution per channel, then a 1x1 over channels (arXiv:1610.02357): cheap where maps are large."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        *ConvNormAct(in_channels, out_channels, 1),
    )
