"""Convolution, normalisation, activation."""

from torch import nn


class ConvNormAct(nn.Sequential):
    """A convolution of stride 1 that keeps the size, batch normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
