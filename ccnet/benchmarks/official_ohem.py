"""OHEM as CCNet's official code computes it: the softmax goes to the CPU, NumPy and SciPy choose the pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = 255
FACTOR = 8


def official_ohem(logits_BCHW: Tensor, mask_BHW: Tensor, threshold: float = 0.7, min_kept: int = 100000) -> Tensor:
    """Cross entropy, mean over the hard pixels."""
    return F.cross_entropy(logits_BCHW, official_mask(logits_BCHW, mask_BHW, threshold, min_kept), ignore_index=255)


def official_mask(logits_BCHW: Tensor, mask_BHW: Tensor, threshold: float = 0.7, min_kept: int = 100000) -> Tensor:
    """The mask, easy pixels ignored. (loss/loss.py of the official repository, in our words.)"""
    probabilities, labels = logits_BCHW.detach().softmax(dim=1).cpu().numpy(), mask_BHW.cpu().numpy()
    bound = official_threshold(probabilities, labels, threshold, min_kept)
    flat = labels.ravel().astype(np.int32)
    (valid,) = np.where(flat != IGNORE_INDEX)
    kept = valid[_of_true_class(probabilities, flat) <= bound]
    hard = np.full_like(flat, IGNORE_INDEX)
    hard[kept] = flat[kept]
    return torch.from_numpy(hard.reshape(labels.shape)).long().to(mask_BHW.device)


def official_threshold(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], threshold: float, min_kept: int
) -> float:
    """T, from probabilities (B, C, H, W) and labels (B, H, W) on maps of 1/8 of the size."""
    small = zoom(probabilities, (1.0, 1.0, 1.0 / FACTOR, 1.0 / FACTOR), order=1)
    small_labels = zoom(labels, (1.0, 1.0 / FACTOR, 1.0 / FACTOR), order=0).ravel()
    p = _of_true_class(small, small_labels)
    k = min_kept // FACTOR**2
    if k >= len(p):
        return 1.0
    return max(threshold, float(np.partition(p, k - 1)[k - 1])) if k > 0 else threshold


def _of_true_class(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Of the pixels that are not ignored, in order."""
    valid = labels != IGNORE_INDEX
    per_class = np.rollaxis(probabilities, 1).reshape(probabilities.shape[1], -1)[:, valid]
    return per_class[labels[valid], np.arange(per_class.shape[1])]
