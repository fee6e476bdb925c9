"""The fully convolutional head (arXiv:1411.4038): CCNet's auxiliary head, or a baseline without context."""

from collections.abc import Sequence

from torch import Tensor, nn

from ccnet.models.layers.conv import Activation, ConvNormAct


class FCNHead(nn.Module):
    """3x3 convolution, dropout and classifier on one of the backbone's features.

    Args:
        in_channels: of the backbone's features, fine to coarse.
        num_classes: number of classes.
        channels: after the convolution.
        feature: which one, counted as Python counts: -2 is the one before the last.
        dropout: share of channels dropped before the classifier.
        activation: after the convolution; leaky_relu in the official CCNet.
        conv_bias: whether the convolution has one before its norm; true in the official CCNet.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        feature: int = -1,
        dropout: float = 0.1,
        activation: Activation = "relu",
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.feature = feature
        self.conv = ConvNormAct(in_channels[feature], channels, activation=activation, bias=conv_bias)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The backbone's features -> logits (B, num_classes, h, w) and features (B, channels, h, w), at one stride."""
        convolved = self.conv(features[self.feature])
        return self.classifier(self.dropout(convolved)), convolved
