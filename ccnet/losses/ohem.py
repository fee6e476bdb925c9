"""Cross entropy over the hard pixels: online hard example mining as in CCNet's recipe."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import joined_over_ranks, mean_over_ranks, sum_over_ranks
from ccnet.losses.cross_entropy import IGNORE_INDEX

Normaliser = Literal["kept", "valid", "all"]


class OHEM(nn.Module):
    """Mean cross entropy over the pixels whose true class has a probability p of at most T = max(threshold, p_k).

    p_k is the k-th smallest true-class probability of the batch, k = min(min_kept, valid pixels): at least k pixels
    are kept, ties with the k-th included. (CCNet's official training code; arXiv:1604.03540.)

    The official code estimates p_k on a map of 1/8 of the size: probabilities zoomed linearly, labels zoomed to the
    nearest, corners aligned; k is then min_kept // 64, and T = 1 where the map has no more than k valid pixels.
    `threshold_stride: 8` does the same, up to rounding at T itself; pixels are kept or dropped at full resolution, as
    there. (scipy's zoom, which the official code calls, puts 0 into the last row where its rounding ends outside of the
    image, at 713 pixels but not at 769; here that row is the image's last.)

    Args:
        threshold: T is at least that.
        min_kept: pixels, per rank; with `global_batch` over all ranks.
        normaliser: what the sum over the kept pixels is divided by, over all ranks: the number of `kept` pixels as in
            the official code, of `valid` ones, or of `all`, ignored ones too, as mmsegmentation's sampler does.
        threshold_stride: pixels of the batch per pixel of the map, in each direction, that p_k is read from.
        global_batch: whether p_k is that of all ranks' pixels; otherwise each rank has a T of its own.

    Raises:
        ValueError: a threshold outside (0, 1], a negative min_kept, an unknown normaliser, a stride below 1.
    """

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: int = 100000,
        normaliser: Normaliser = "kept",
        threshold_stride: int = 1,
        global_batch: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1 or min_kept < 0:
            raise ValueError(f"threshold must lie in (0, 1] and min_kept be >= 0, got {threshold} and {min_kept}")
        if normaliser not in ("kept", "valid", "all"):
            raise ValueError(f"normaliser must be kept, valid or all, got {normaliser}")
        if threshold_stride < 1:
            raise ValueError(f"threshold_stride must be >= 1, got {threshold_stride}")
        self.max_easy_loss = -math.log(threshold)
        self.min_kept = min_kept // threshold_stride**2
        self.normaliser = normaliser
        self.threshold_stride = threshold_stride
        self.global_batch = global_batch

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        pixel_losses = F.cross_entropy(logits_BCHW, mask_BHW, ignore_index=IGNORE_INDEX, reduction="none")
        kept = self.kept(pixel_losses.detach(), logits_BCHW.detach(), mask_BHW)
        count = {"kept": kept, "valid": mask_BHW != IGNORE_INDEX, "all": torch.ones_like(kept)}[self.normaliser].sum()
        # A product would let an infinite loss of a left-out pixel through as NaN.
        return mean_over_ranks(pixel_losses.where(kept, 0.0).sum(), count)

    def kept(self, pixel_losses_BHW: Tensor, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """Which pixels count: bool (B, H, W). Reads no value back from the device.

        Args:
            pixel_losses_BHW: -log p, which p <= T is asked of, so that no softmax is needed.
            logits_BCHW, mask_BHW: what they come from.
        """
        valid = mask_BHW != IGNORE_INDEX
        if self.threshold_stride == 1:
            bound = self._smallest_kept_loss(pixel_losses_BHW, valid)
        else:
            coarse_losses, coarse_mask = _zoomed_out(logits_BCHW, mask_BHW, self.threshold_stride)
            bound = self._smallest_kept_loss(coarse_losses, coarse_mask != IGNORE_INDEX)
        return valid & (pixel_losses_BHW >= bound)

    def _smallest_kept_loss(self, losses: Tensor, valid: Tensor) -> Tensor:
        """-log T: the k-th largest loss, if -log threshold is above; -inf where no more than k pixels are valid."""
        hardest = losses.where(valid, -math.inf).flatten()
        hardest = hardest.topk(min(self.min_kept, hardest.numel()), sorted=False).values
        num_valid = valid.sum()
        if self.global_batch:
            num_valid = sum_over_ranks(num_valid)
            hardest = joined_over_ranks(F.pad(hardest, (0, self.min_kept - hardest.numel()), value=-math.inf))
            hardest = hardest.topk(self.min_kept, sorted=False).values
        bound = torch.full((), self.max_easy_loss, dtype=losses.dtype, device=losses.device)
        bound = torch.cat([hardest, bound[None]]).min()
        return bound.where(num_valid > self.min_kept, -math.inf)


def _zoomed_out(logits_BCHW: Tensor, mask_BHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """-log p (B, h, w) of the zoomed true class in the zoomed probabilities, and the zoomed mask."""
    # Positions are computed on the CPU in float64, which some devices lack.
    rows, columns = (_positions(side, stride) for side in mask_BHW.shape[1:])
    mask_Bhw = mask_BHW[:, _nearest(*rows)][:, :, _nearest(*columns)]
    true_class = mask_Bhw.where(mask_Bhw != IGNORE_INDEX, 0)[:, None]
    (above, below, down), (left, right, across) = rows, columns
    down, across = (way.to(logits_BCHW.dtype).to(logits_BCHW.device) for way in (down, across))

    def probability(rows: Tensor, columns: Tensor) -> Tensor:
        corner = logits_BCHW[:, :, rows[:, None], columns]
        return corner.softmax(dim=1).gather(1, true_class)[:, 0]

    upper = torch.lerp(probability(above, left), probability(above, right), across)
    lower = torch.lerp(probability(below, left), probability(below, right), across)
    return -torch.lerp(upper, lower, down[:, None]).log(), mask_Bhw


def _positions(size: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of a zoomed axis lie, its ends on the image's ends: the pixels before and behind each, and how
    far it is on the way from the one to the other."""
    num = max(1, round(size * (1 / stride)))
    position = torch.arange(num, dtype=torch.float64) * ((size - 1) / max(1, num - 1))
    before = position.long()
    return before, (before + 1).clamp(max=size - 1), position - before


def _nearest(before: Tensor, behind: Tensor, way: Tensor) -> Tensor:
    return behind.where(way >= 0.5, before)
