"""Cross entropy over the valid pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import mean_over_ranks
from ccnet.errors import ConfigError

IGNORE_INDEX = 255


class CrossEntropy(nn.Module):
    """-log p of the true class, mean over all pixels that are not ignored.

    Args:
        class_weights: one per class; the mean is then weighted by the true classes' weights. None weighs all alike.
        label_smoothing: share of the target that is spread over all classes (arXiv:1512.00567).
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)
        self.label_smoothing = label_smoothing

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        if self.class_weights is not None and len(self.class_weights) != logits_BCHW.shape[1]:
            raise ConfigError(f"{len(self.class_weights)} class_weights for {logits_BCHW.shape[1]} classes")
        total = F.cross_entropy(
            logits_BCHW,
            mask_BHW,
            weight=None if self.class_weights is None else self.class_weights.to(logits_BCHW.dtype),
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        valid = mask_BHW != IGNORE_INDEX
        count = valid.sum() if self.class_weights is None else self.class_weights[mask_BHW[valid]].sum()
        return mean_over_ranks(total, count)
