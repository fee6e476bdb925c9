"""A backbone without context: every position sees one patch of the image, and no two positions share a pixel."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.backbones.weights import load_weights


class Patches(nn.Module):
    """Four stages of a convolution whose stride is its kernel, batch normalisation and ReLU: strides 4 and 8, 16 and 32
    or what `output_stride` leaves of them; past it the kernels are 1x1.

    A position at stride s sees the s x s pixels below it and nothing else: what is known there about other places,
    the head has carried.

    Args:
        channels: of every stage.
        output_stride: 4, 8, 16 or 32.
        weights: null (random) or a file.
        in_channels: of the image.

    Raises:
        ValueError: another output stride.
    """

    def __init__(
        self,
        channels: int = 64,
        output_stride: Literal[4, 8, 16, 32] = 8,
        weights: str | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if output_stride not in (4, 8, 16, 32):
            raise ValueError(f"output_stride must be 4, 8, 16 or 32, got {output_stride}")
        kernels = [4, *(2 if stride <= output_stride else 1 for stride in (8, 16, 32))]
        widths = [in_channels, channels, channels, channels]
        self.stages = nn.ModuleList(
            PatchConv(width, channels, kernel) for width, kernel in zip(widths, kernels, strict=True)
        )
        self.architecture = "patches"
        load_weights(self, self.architecture, weights)
        self.out_channels = [channels] * 4
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features (B, channels, h, w) from fine to coarse."""
        feature = image_BCHW
        features = []
        for stage in self.stages:
            feature = stage(feature)
            features.append(feature)
        return features


class PatchConv(nn.Module):
    """One stage; a side that the kernel does not divide is padded with zeros at its end, so that no pixel is lost."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, ceil(H / kernel_size), ceil(W / kernel_size))."""
        bottom, right = (-side % self.kernel_size for side in x_BCHW.shape[-2:])
        return F.relu(self.norm(self.conv(F.pad(x_BCHW, (0, right, 0, bottom)))))
