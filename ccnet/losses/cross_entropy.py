"""Cross entropy over the valid pixels."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import mean_over_ranks
from ccnet.errors import ConfigError
from ccnet.losses.class_weights import Rule, checked_weights, weights_from_pixels

IGNORE_INDEX = 255


class CrossEntropy(nn.Module):
    """-log p of the true class, mean over all pixels that are not ignored.

    Args:
        class_weights: one per class; the mean is then weighted by the true classes' weights. None weighs all alike.
            `inverse_log` and `effective_number` weigh by the pixels that the classes have in the training set, which
            `set_class_pixels` must be told before the first call.
        label_smoothing: share of the target that is spread over all classes (arXiv:1512.00567).

    Raises:
        ValueError: a negative weight, an unknown word, a smoothing outside [0, 1].
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | Rule | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must lie in [0, 1], got {label_smoothing}")
        self.weight_rule: Rule | None = None
        if isinstance(class_weights, str):
            if class_weights not in get_args(Rule):
                raise ValueError(f"class_weights must be a list, inverse_log or effective_number, got {class_weights}")
            self.weight_rule, class_weights = class_weights, None
        self.register_buffer("class_weights", checked_weights(class_weights, "class_weights"))
        self.label_smoothing = label_smoothing

    def set_class_pixels(self, pixels: Sequence[int]) -> None:
        """Weighs by the pixels of each class in the training set, if a rule says so."""
        if self.weight_rule:
            self.class_weights = checked_weights(weights_from_pixels(self.weight_rule, pixels), "class_weights")

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        if self.weight_rule and self.class_weights is None:
            raise ValueError(f"class_weights: {self.weight_rule} needs set_class_pixels first")
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
