"""Attention beside a shortcut."""

from torch import Tensor, nn

from ccnet.models.attention.dual import initialize


class ResidualAttention(nn.Module):
    """y = x + conv(attention(x)), with a 1x1 convolution: what the gates close is still there.

    Args:
        channels: of the input.
        attention: a layer that keeps the shape.
    """

    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.conv = nn.Conv2d(channels, channels, 1)
        initialize(self.conv)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x_BCHW + self.conv(self.attention(x_BCHW))
