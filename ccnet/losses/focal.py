"""Focal loss: cross entropy that forgets the pixels it has got right."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import mean_over_ranks
from ccnet.errors import ConfigError
from ccnet.losses.class_weights import checked_weights
from ccnet.losses.cross_entropy import IGNORE_INDEX


class Focal(nn.Module):
    """-alpha_y (1 - p_y)^gamma log p_y, p the softmax and y the true class; mean over all pixels that are not ignored
    (Lin et al. 2017, Eq. 5, arXiv:1708.02002).

    gamma = 0 is cross entropy. In segmentation_models_pytorch and mmsegmentation "multiclass" stands for C independent
    sigmoids, the paper's form for detectors, where a pixel may have several classes; gamma = 0 is binary cross entropy
    there, and their values differ from these. The softmax is what training, prediction and cross entropy use here.

    Args:
        gamma: how fast easy pixels fade.
        alpha: one weight per class; None weighs all alike. The mean is not divided by them.

    Raises:
        ValueError: a negative gamma or alpha.
    """

    alpha: Tensor | None

    def __init__(self, gamma: float = 2.0, alpha: Sequence[float] | None = None) -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"gamma must be >= 0, got {gamma}")
        self.gamma = gamma
        self.register_buffer("alpha", checked_weights(alpha, "alpha"))

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        negative_log_p = F.cross_entropy(logits_BCHW, mask_BHW, ignore_index=IGNORE_INDEX, reduction="none")
        # 1 - p without cancellation; never 0, where a power below 1 has an infinite slope.
        wrong = (-torch.expm1(-negative_log_p)).clamp(min=torch.finfo(negative_log_p.dtype).tiny)
        losses = wrong**self.gamma * negative_log_p
        valid = mask_BHW != IGNORE_INDEX
        if self.alpha is not None:
            if len(self.alpha) != logits_BCHW.shape[1]:
                raise ConfigError(f"{len(self.alpha)} values of alpha for {logits_BCHW.shape[1]} classes")
            losses = losses * self.alpha.to(losses.dtype)[mask_BHW.where(valid, 0)]
        return mean_over_ranks(losses.sum(), valid.sum())
