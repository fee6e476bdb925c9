"""Dice loss: the overlap of each class with its prediction."""

import torch
from torch import Tensor, nn

from ccnet.distributed import differentiable_sum_over_ranks
from ccnet.losses.cross_entropy import IGNORE_INDEX


class Dice(nn.Module):
    """1 - (2 sum_i p_i g_i + smooth) / (sum_i p_i + sum_i g_i + smooth), mean over the classes that the batch contains.

    p is the softmax, g 1 on the pixels of the class and 0 elsewhere; i runs over all pixels of the batch, of all ranks,
    that are not ignored: DL_2 of Sudre et al. 2017 (arXiv:1707.03237) for any number of classes.

    segmentation_models_pytorch sums the same way, but counts an absent class as a perfect one, so that its loss shrinks
    with the share of present classes; where all are present both are equal. mmsegmentation takes one overlap of all
    classes jointly per image, squares in the denominator (V-Net), and does not leave ignored pixels out.

    Args:
        smooth: keeps the loss of tiny classes away from 1, in pixels.

    Raises:
        ValueError: a negative smooth.
    """

    def __init__(self, smooth: float = 0.0) -> None:
        super().__init__()
        if not smooth >= 0:
            raise ValueError(f"smooth must be >= 0, got {smooth}")
        self.smooth = smooth

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        logits_BCHW = logits_BCHW.to(torch.promote_types(logits_BCHW.dtype, torch.float32))
        valid = mask_BHW != IGNORE_INDEX
        class_BHW = mask_BHW.where(valid, 0)
        p_BCHW = logits_BCHW.softmax(dim=1)
        p_true_BHW = p_BCHW.gather(1, class_BHW[:, None])[:, 0]
        # In float64, where the device has it: a running sum in float32 stops to grow at some million pixels.
        exact = torch.float32 if logits_BCHW.device.type == "mps" else torch.float64
        predicted_C = (p_BCHW * valid[:, None]).sum(dim=(0, 2, 3)).to(exact)
        zeros_C, class_N = torch.zeros_like(predicted_C), class_BHW.flatten()
        overlap_C = zeros_C.index_add(0, class_N, p_true_BHW.where(valid, 0).flatten().to(exact))
        true_C = zeros_C.index_add(0, class_N, valid.flatten().to(exact))
        overlap_C, predicted_C, true_C = differentiable_sum_over_ranks(torch.stack([overlap_C, predicted_C, true_C]))
        present_C = true_C > 0
        size_C = (predicted_C + true_C + self.smooth).where(present_C, 1.0)
        losses_C = (1 - (2 * overlap_C + self.smooth) / size_C).where(present_C, 0.0)
        return (losses_C.sum() / present_C.sum().clamp(min=1)).to(logits_BCHW.dtype)
