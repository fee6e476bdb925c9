"""The head of CCNet with non-local attention in the place of criss-cross attention."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ccnet.models.layers.context_fusion import ContextFusion
from ccnet.models.layers.conv import ConvNormAct
from ccnet.models.layers.non_local import NonLocalAttention


class NonLocalHead(nn.Module):
    """Reduction, one non-local attention, concatenation with the backbone's feature, classifier: the baseline that the
    CCNet paper compares with (Tab. 5 there).

    Args:
        in_channels: of the backbone's features, fine to coarse.
        num_classes: number of classes.
        channels: after the reduction.
        reduction_kernel: of the convolution that reduces.
        form: explicit or sdpa, how the attention is computed.
        fusion_convs: number of 3x3 convolutions after the concatenation.
        dropout: share of channels dropped before the classifier.
        embedding_channels: size of a 1x1 projection of the attention's output, for the category-consistent loss.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        reduction_kernel: int = 3,
        form: Literal["explicit", "sdpa"] = "explicit",
        fusion_convs: int = 1,
        dropout: float = 0.1,
        embedding_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.reduction = ConvNormAct(in_channels[-1], channels, reduction_kernel)
        self.attention = NonLocalAttention(channels, form=form)
        self.fusion = ContextFusion(in_channels[-1], channels, fusion_convs)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(self.fusion.out_channels, num_classes, 1)
        self.embedding = nn.Conv2d(channels, embedding_channels, 1) if embedding_channels else None

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The backbone's features -> logits (B, num_classes, h, w), and the attention's output (B, D, h, w)."""
        attended = self.attention(self.reduction(features[-1]))
        logits = self.classifier(self.dropout(self.fusion(features[-1], attended)))
        return logits, attended if self.embedding is None else self.embedding(attended)
