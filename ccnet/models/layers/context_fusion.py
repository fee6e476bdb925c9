"""Where a context module's output meets the backbone's feature."""

import torch
from torch import Tensor, nn

from ccnet.models.layers.conv import Activation, ConvNormAct


class ContextFusion(nn.Module):
    """A convolution on the context, concatenation with the backbone's feature, more convolutions (CCNet Fig. 2).

    Args:
        feature_channels: of the backbone's feature.
        channels: of the context, and of each convolution's result.
        num_convs: number of convolutions after the concatenation.
        kernel_size: of all these convolutions.
        activation: after each of them.
    """

    def __init__(
        self,
        feature_channels: int,
        channels: int,
        num_convs: int = 1,
        kernel_size: int = 3,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.context = ConvNormAct(channels, channels, kernel_size, activation)
        joined = feature_channels + channels
        self.convs = nn.Sequential(
            *(ConvNormAct(joined if i == 0 else channels, channels, kernel_size, activation) for i in range(num_convs))
        )
        self.out_channels = channels if num_convs else joined

    def forward(self, feature_BFHW: Tensor, context_BCHW: Tensor) -> Tensor:
        """(B, F, H, W) and (B, C, H, W) -> (B, out_channels, H, W)."""
        joined: Tensor = self.convs(torch.cat([feature_BFHW, self.context(context_BCHW)], dim=1))
        return joined
