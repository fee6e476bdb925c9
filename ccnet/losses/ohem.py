"""Cross entropy over the hard pixels: online hard example mining as in CCNet's recipe."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import mean_over_ranks
from ccnet.losses.cross_entropy import IGNORE_INDEX


class OHEM(nn.Module):
    """Mean cross entropy over the pixels whose true class has a probability of at most T = max(threshold, p_k).

    p_k is the k-th smallest true-class probability of the batch on this rank, k = min(min_kept, valid pixels): at
    least k pixels are kept, ties with the k-th included. (CCNet's official training code; arXiv:1604.03540.)
    """

    def __init__(self, threshold: float = 0.7, min_kept: int = 100000) -> None:
        super().__init__()
        if not 0 < threshold <= 1 or min_kept < 0:
            raise ValueError(f"threshold must lie in (0, 1] and min_kept be >= 0, got {threshold} and {min_kept}")
        self.max_easy_loss = -math.log(threshold)
        self.min_kept = min_kept

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        pixel_losses = F.cross_entropy(logits_BCHW, mask_BHW, ignore_index=IGNORE_INDEX, reduction="none")
        valid = mask_BHW != IGNORE_INDEX
        kept = valid & (pixel_losses >= self._smallest_kept_loss(pixel_losses.detach()[valid]))
        # A product would let an infinite loss of a left-out pixel through as NaN.
        return mean_over_ranks(pixel_losses.where(kept, 0.0).sum(), kept.sum())

    def _smallest_kept_loss(self, losses: Tensor) -> Tensor:
        """p <= T in terms of the loss -log p, which needs no softmax: the k-th largest loss, if the bound is above."""
        bound = torch.full((), self.max_easy_loss, dtype=losses.dtype, device=losses.device)
        k = min(self.min_kept, losses.numel())
        if k == 0 or int((losses >= bound).sum()) >= k:
            return bound
        return losses.kthvalue(losses.numel() - k + 1).values
