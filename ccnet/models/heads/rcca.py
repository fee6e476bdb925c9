"""The recurrent criss-cross attention head of CCNet."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.models.layers.context_fusion import ContextFusion
from ccnet.models.layers.conv import Activation, ConvNormAct
from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.layers.skip_fusion import SkipFusion
from ccnet.models.ops.criss_cross import Backend
from ccnet.models.ops.criss_cross.composition import compose


class RCCAHead(nn.Module):
    """Reduction, R loops of criss-cross attention, concatenation with the backbone's feature, classifier
    (CCNet Fig. 2-3, arXiv:1811.11721).

    Args:
        in_channels: of the backbone's features, fine to coarse.
        num_classes: number of classes.
        channels: after the reduction.
        reduction_kernel: 3 as in the official code, 1 as in the paper's text.
        recurrence: R of the paper; all loops share their weights. 0 leaves a fully convolutional head.
        backend: how the attention is computed; all give the same.
        multi_scale: for very large inputs: each loop adds the attention on features pooled to these scales, 1 / n, to
            that at full resolution, 1.0; off at [1.0]. A position then reaches n times as wide a cross of averages.
            [1.0, 0.5] costs a quarter of an attention more a loop, in time and in what is kept for the gradient.
        fusion_convs: number of convolutions after the concatenation.
        fusion_kernel: of these, and of the one between attention and concatenation; 1 lets no position see another but
            by the attention.
        activation: after the reduction and these convolutions; leaky_relu in the official code.
        dropout: share of channels dropped before the classifier.
        skip_features: indices of finer backbone features that refine the result, coarse to fine; none in the paper.
        skip_channels: of each such feature after its projection.
        decoder_channels: of the convolution that takes each of them in.
        decoder_separable: whether these convolutions are depthwise separable.
        embedding_channels: size of a 1x1 projection of the attention's output, for the category-consistent loss.

    Raises:
        ValueError: a negative recurrence or number of convolutions, scales that are not 1.0 and fractions 1 / n, an
            unknown backend; skips and decoder channels of unequal number.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 512,
        reduction_kernel: int = 3,
        recurrence: int = 2,
        backend: Backend = "auto",
        multi_scale: Sequence[float] = (1.0,),
        fusion_convs: int = 1,
        fusion_kernel: int = 3,
        activation: Activation = "relu",
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
        self.pooling = _pooling(multi_scale)
        self.reduction = ConvNormAct(in_channels[-1], channels, reduction_kernel, activation)
        # Built for R = 0 too, as such a model can still be evaluated with more loops; but several ranks train together
        # only where every parameter that wants a gradient gets one.
        self.attention = CrissCrossAttention(channels, backend=backend).requires_grad_(recurrence > 0)
        self.fusion = ContextFusion(in_channels[-1], channels, fusion_convs, fusion_kernel, activation)
        width = self.fusion.out_channels
        self.skips = nn.ModuleList()
        self.skip_features = list(skip_features)
        for index, channels_out in zip(skip_features, decoder_channels, strict=True):
            self.skips.append(SkipFusion(width, in_channels[index], skip_channels, channels_out, decoder_separable))
            width = channels_out
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.embedding = nn.Conv2d(channels, embedding_channels, 1) if embedding_channels else None

    def forward(self, features: list[Tensor], recurrence: int | None = None) -> tuple[Tensor, Tensor]:
        """The backbone's features -> logits (B, num_classes, h, w), and the attention's output (B, D, h', w').

        Args:
            features: fine to coarse.
            recurrence: another number of loops, for this call.
        """
        recurrence = self.recurrence if recurrence is None else recurrence
        if recurrence < 0:
            raise ValueError(f"recurrence must be >= 0, got {recurrence}")
        attended = self.reduction(features[-1])
        for _ in range(recurrence):
            attended = self._loop(attended)
        decoded = self.fusion(features[-1], attended)
        for skip, index in zip(self.skips, self.skip_features, strict=True):
            decoded = skip(decoded, features[index])
        logits = self.classifier(self.dropout(decoded))
        return logits, attended if self.embedding is None else self.embedding(attended)

    def attention_maps(self, features: list[Tensor]) -> list[Tensor]:
        """The attention of each loop at full resolution: (B, H, W, H + W), columns first."""
        attended, maps = self.reduction(features[-1]), []
        for _ in range(self.recurrence):
            maps.append(self.attention.attention(attended))
            attended = self._loop(attended)
        return maps

    def attended_by(self, features: list[Tensor], row: int, column: int) -> Tensor:
        """How much one position takes from each other over all loops at full resolution: (B, H, W), summing to one.

        Raises:
            ValueError: a head without loops.
            IndexError: a position outside the backbone's last feature.
        """
        return compose(self.attention_maps(features), row, column)

    def _loop(self, x_BCHW: Tensor) -> Tensor:
        looped: Tensor = self.attention(x_BCHW)
        for factor in self.pooling:
            pooled = F.avg_pool2d(x_BCHW, factor, ceil_mode=True)
            added = self.attention(pooled) - pooled
            looped = looped + F.interpolate(added, x_BCHW.shape[2:], mode="bilinear", align_corners=False)
        return looped


def _pooling(scales: Sequence[float]) -> list[int]:
    """The factors of all scales but 1.0."""
    factors = [1 / scale if scale > 0 else 0.0 for scale in scales]
    whole = {round(factor) for factor in factors}
    if 1 not in whole or len(whole) < len(factors) or any(abs(f - round(f)) > 0.01 or f < 0.5 for f in factors):
        raise ValueError(f"multi_scale must hold 1.0 and other fractions 1 / n, such as 0.5, got {list(scales)}")
    return sorted(whole - {1})
