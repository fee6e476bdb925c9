"""Lovasz-softmax: a convex surrogate of one minus the intersection over union of each class."""

import torch
from torch import Tensor, nn

from ccnet.losses.cross_entropy import IGNORE_INDEX

INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}


class LovaszSoftmax(nn.Module):
    """The Lovasz extension of 1 - IoU at the errors |g - p| of a class, mean over the classes that the batch contains
    (Berman et al. 2018, arXiv:1705.08790, with their code's "present" classes).

    p is the softmax, g 1 on the pixels of the class and 0 elsewhere, over all pixels of this rank's batch that are not
    ignored. Several ranks average their losses: an IoU of all ranks' pixels would need them sorted together.
    """

    def __init__(self) -> None:  # without, nn.Module's *args would be the schema
        super().__init__()

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        valid = mask_BHW != IGNORE_INDEX
        pixels_C = mask_BHW.flatten().bincount(minlength=IGNORE_INDEX)[: logits_BCHW.shape[1]]
        p_CBHW = logits_BCHW.softmax(dim=1).unbind(dim=1)
        losses = []
        for label in pixels_C.nonzero()[:, 0].tolist():
            is_class = mask_BHW == label
            errors = torch.where(is_class, 1 - p_CBHW[label], p_CBHW[label])
            losses.append((errors * _slopes(errors.detach(), is_class, valid)).sum())
        return torch.stack(losses).mean() if losses else logits_BCHW.sum() * 0


def _slopes(errors: Tensor, is_class: Tensor, valid: Tensor) -> Tensor:
    """How much 1 - IoU grows with each pixel when the valid ones become wrong one by one, largest error first.

    With n pixels of the class, of which I are still right, and U = n + wrong others: a pixel of the class turns I / U
    into (I - 1) / U, another one I / (U - 1) into I / U. The differences are written out, 1 / U and I / (U (U - 1)): in
    float32, 1 - IoU itself has too few digits for those between neighbours of a million.
    """
    # PyTorch sorts integers several times as fast as floats, and the bits of floats >= 0 are in the floats' order.
    bits = errors.view(INTEGERS[errors.dtype])
    order = torch.where(valid, -bits, 1).flatten().argsort()
    is_class_sorted = is_class.flatten().index_select(0, order)
    number_wrong = is_class_sorted.cumsum(0, dtype=torch.int32)
    right = number_wrong[-1] - number_wrong
    union = right + torch.arange(1, len(order) + 1, dtype=torch.int32, device=order.device)
    union = union.to(errors.dtype)
    slopes = torch.where(is_class_sorted, 1 / union, right / (union * (union - 1)))
    return torch.empty_like(slopes).scatter_(0, order, slopes).view_as(errors).where(valid, 0.0)
