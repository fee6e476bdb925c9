"""The recurrent criss-cross attention head of CCNet."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ccnet.models.layers.conv import ConvNormAct
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.layers.skip_fusion import SkipFusion


class RCCAHead(nn.Module):
    """Reduction, R loops of criss-cross attention, concatenation with the backbone's feature, classifier
    (CCNet Fig. 2-3, arXiv:1811.11721).

    Args:
        in_channels: of the backbone's features, fine to coarse.
        num_classes: number of classes.
        channels: after the reduction.
        reduction_kernel: 3 as in the official code, 1 as in the paper's text.
        recurrence: R of the paper; all loops share their weights. 0 leaves a fully convolutional head.
        fusion_convs: number of 3x3 convolutions after the concatenation.
        dropout: share of channels dropped before the classifier.
        skip_features: indices of finer backbone features that refine the result, coarse to fine; none in the paper.
        skip_channels: of each such feature after its projection.
        decoder_channels: of the convolution that takes each of them in.
        decoder_separable: whether these convolutions are depthwise separable.
        embedding_channels: size of a 1x1 projection of the attention's output, for the category-consistent loss.

    Raises:
        ValueError: a negative recurrence or number of convolutions; skips and decoder channels of unequal number.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        reduction_kernel: int = 3,
        recurrence: int = 2,
        fusion_convs: int = 1,
        dropout: float = 0.1,
        skip_features: Sequence[int] = (),
        skip_channels: int = 48,
        decoder_channels: Sequence[int] = (),
        decoder_separable: bool = False,
        embedding_channels: int | None = None,
    ) -> None:
        super().__init__()
        if recurrence < 0 or fusion_convs < 0:
            raise ValueError(f"recurrence and fusion_convs must be >= 0, got {recurrence} and {fusion_convs}")
        if len(skip_features) != len(decoder_channels):
            raise ValueError(f"skip_features {skip_features} and decoder_channels {decoder_channels} must be as many")
        self.recurrence = recurrence
        self.reduction = ConvNormAct(in_channels[-1], channels, reduction_kernel)
        # Built for R = 0 too, as such a model can still be evaluated with more loops; but several ranks train together
        # only where every parameter that wants a gradient gets one.
        self.attention = CrissCrossAttention(channels).requires_grad_(recurrence > 0)
        self.context = ConvNormAct(channels, channels)
        joined = in_channels[-1] + channels
        self.fusion = nn.Sequential(
            *(ConvNormAct(joined if i == 0 else channels, channels) for i in range(fusion_convs))
        )
        width = channels if fusion_convs else joined
        self.skips = nn.ModuleList()
        self.skip_features = list(skip_features)
        for index, channels_out in zip(skip_features, decoder_channels, strict=True):
            self.skips.append(SkipFusion(width, in_channels[index], skip_channels, channels_out, decoder_separable))
            width = channels_out
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.embedding = nn.Conv2d(channels, embedding_channels, 1) if embedding_channels else None

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The backbone's features -> logits (B, num_classes, h, w), and the attention's output (B, D, h', w')."""
        attended = self.reduction(features[-1])
        for _ in range(self.recurrence):
            attended = self.attention(attended)
        decoded = self.fusion(torch.cat([features[-1], self.context(attended)], dim=1))
        for skip, index in zip(self.skips, self.skip_features, strict=True):
            decoded = skip(decoded, features[index])
        logits = self.classifier(self.dropout(decoded))
        return logits, attended if self.embedding is None else self.embedding(attended)
