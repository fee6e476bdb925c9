"""Convolution, normalisation, activation."""

from typing import Literal, get_args

from torch import nn

Activation = Literal["relu", "leaky_relu"]
LEAKY_SLOPE = 0.01  # of the official CCNet's in-place activated batch norm


class ConvNormAct(nn.Sequential):
    """A convolution of stride 1 that keeps the size, batch normalisation and activation.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        activation: Activation = "relu",
        bias: bool = False,
    ) -> None:
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {', '.join(get_args(Activation))}, got {activation}")
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
        )


def separable_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution per channel, then a 1x1 over channels (arXiv:1610.02357): cheap where maps are large."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        *ConvNormAct(in_channels, out_channels, 1),
    )
