"""Channel and spatial gates of SCA-CNN (arXiv:1611.05594), as layers that keep the shape of a feature map."""

from torch import Tensor, nn


class DualAttention(nn.Module):
    """What matters, then where: y = dropout(x_c * spatial(x_c)) with x_c = x * channel(x).

    The channel gate comes first, SCA-CNN's C-S order: it chooses among the channels by what is in the whole image, and
    the spatial gate then looks at the chosen ones. The paper's gates also see the words that a caption has so far;
    these see the image alone.

    channel(x) = sigmoid(W2 relu(W1 mean_HW(x))), (B, C, 1, 1), with W1 from C to max(1, C // reduction) channels.
    spatial(x) = sigmoid(w x), (B, 1, H, W), a 1x1 convolution.
    A gate g of strength s is 1 + s (g - 1): 1 is the bare gate, 0 leaves the feature alone, so that alpha = beta = 0
    is the identity (but for the dropout while training).

    DualAttention(512) has 66 625 parameters: 512 * 64 + 64, 64 * 512 + 512 and 512 + 1. Articles that quote +1 M for
    VGG16 and +0.6 M for ResNet-50 count something else.

    The convolutions begin as `initialize` says. The spatial one has a fan-out of 1, so that its answers are large on a
    wide map and a fresh gate is near 0 or 1 at most positions; `alpha` bounds what that does to a pretrained network.

    Args:
        channels: of the input.
        reduction: `channels` over those between W1 and W2.
        alpha: strength of the spatial gate, in 0..1.
        beta: strength of the channel gate, in 0..1.
        dropout: share of the channels that is dropped while training.
        light: hardswish and hardsigmoid (arXiv:1905.02244) in place of relu and sigmoid, for mobile networks.

    Raises:
        ValueError: a value out of these ranges.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        alpha: float = 1.0,
        beta: float = 1.0,
        dropout: float = 0.1,
        light: bool = False,
    ) -> None:
        super().__init__()
        _require_strength("alpha", alpha)
        _require_strength("beta", beta)
        self.alpha, self.beta = alpha, beta
        self.channel_gate = _channel_gate(channels, reduction, light)
        self.spatial_gate = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Hardsigmoid() if light else nn.Sigmoid())
        self.dropout = _dropout(dropout)
        initialize(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        chosen_BCHW = x_BCHW * _weakened(self.channel_gate(x_BCHW), self.beta)
        gated_BCHW = chosen_BCHW * _weakened(self.spatial_gate(chosen_BCHW), self.alpha)
        output: Tensor = self.dropout(gated_BCHW)
        return output


class ChannelAttention(nn.Module):
    """The channel gate of `DualAttention` alone: y = dropout(x * channel(x)).

    Args:
        channels, reduction, beta, dropout: as there.

    Raises:
        ValueError: as there.
    """

    def __init__(self, channels: int, reduction: int = 8, beta: float = 1.0, dropout: float = 0.1) -> None:
        super().__init__()
        _require_strength("beta", beta)
        self.beta = beta
        self.channel_gate = _channel_gate(channels, reduction, light=False)
        self.dropout = _dropout(dropout)
        initialize(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        output: Tensor = self.dropout(x_BCHW * _weakened(self.channel_gate(x_BCHW), self.beta))
        return output


def initialize(module: nn.Module) -> None:
    """Kaiming's normal distribution by fan-out (arXiv:1502.01852) for convolutions, and biases of 0.

    For new layers: whoever inserts them into a pretrained network calls it on them, never on the network.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def _channel_gate(channels: int, reduction: int, light: bool) -> nn.Sequential:
    if reduction < 1:
        raise ValueError(f"reduction must be at least 1, got {reduction}")
    reduced = max(1, channels // reduction)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(channels, reduced, 1),
        nn.Hardswish() if light else nn.ReLU(),
        nn.Conv2d(reduced, channels, 1),
        nn.Hardsigmoid() if light else nn.Sigmoid(),
    )


def _dropout(share: float) -> nn.Dropout2d:
    if not 0 <= share < 1:
        raise ValueError(f"dropout must lie in 0..1, below 1, got {share}")
    return nn.Dropout2d(share)


def _require_strength(name: str, strength: float) -> None:
    if not 0 <= strength <= 1:
        raise ValueError(f"{name} must lie in 0..1, got {strength}")


def _weakened(gate: Tensor, strength: float) -> Tensor:
    return 1 + strength * (gate - 1)
