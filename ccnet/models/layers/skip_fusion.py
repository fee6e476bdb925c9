"""A finer feature of the backbone joins a coarse map."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.layers.conv import ConvNormAct, separable_conv


class SkipFusion(nn.Module):
    """Upsamples the coarse map to the fine one, joins both by a 3x3 convolution (DeepLabV3+, arXiv:1802.02611)."""

    def __init__(
        self, coarse_channels: int, fine_channels: int, projected_channels: int, out_channels: int, separable: bool
    ) -> None:
        super().__init__()
        self.projection = ConvNormAct(fine_channels, projected_channels, 1)
        conv = separable_conv if separable else ConvNormAct
        self.fusion = conv(coarse_channels + projected_channels, out_channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, h, w) and (B, F, H, W) -> (B, out_channels, H, W)."""
        upsampled = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
        joined: Tensor = self.fusion(torch.cat([upsampled, self.projection(fine)], dim=1))
        return joined
