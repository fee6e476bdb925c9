"""How an evaluation is usually written: whole maps of every view; and sliding windows as CCNet's official code has
them."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ccnet.evaluation.inference import Model

IGNORE_INDEX = 255


def upsampled(model: Model, image: Tensor, size: Sequence[int]) -> Tensor:
    """Logits of a forward pass at a size."""
    return F.interpolate(model(image).logits, size, mode="bilinear", align_corners=model.align_corners)


def count(prediction: Tensor, mask: Tensor, num_classes: int) -> Tensor:
    """The confusion matrix."""
    valid = mask != IGNORE_INDEX
    cells = num_classes * mask[valid].long() + prediction[valid]
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


@torch.inference_mode()
def count_view(model: Model, image: Tensor, mask: Tensor) -> Tensor:
    """interpolate -> argmax -> bincount."""
    logits = upsampled(model, image, mask.shape[-2:])
    return count(logits.argmax(dim=1), mask, logits.shape[1])


@torch.inference_mode()
def count_view_and_loss(model: Model, image: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    """The same with the cross entropy of the upsampled logits."""
    logits = upsampled(model, image, mask.shape[-2:])
    loss = F.cross_entropy(logits, mask.long(), ignore_index=IGNORE_INDEX)
    return count(logits.argmax(dim=1), mask, logits.shape[1]), float(loss)


@torch.inference_mode()
def count_views(model: Model, image: Tensor, mask: Tensor, scales: Sequence[float]) -> Tensor:
    """Probabilities of each scale and its mirror image, added up at the size of the image."""
    total: Tensor | None = None
    for scale in scales:
        size = [round(side * scale) for side in mask.shape[-2:]]
        view = F.interpolate(image.float(), size, mode="bilinear", align_corners=False)
        for mirrored in (False, True):
            seen = view.flip(-1) if mirrored else view
            probabilities = upsampled(model, seen, mask.shape[-2:]).softmax(dim=1)
            probabilities = probabilities.flip(-1) if mirrored else probabilities
            total = probabilities if total is None else total + probabilities
    assert total is not None
    return count(total.argmax(dim=1), mask, total.shape[1])


@torch.inference_mode()
def count_windows(model: Model, image: Tensor, mask: Tensor, crop: int, num_classes: int) -> Tensor:
    """Windows one at a time, logits added up in float64 on the CPU. (evaluate.py of the official code, our words.)"""
    size, stride = mask.shape[-2:], ceil(crop * (1 - 1 / 3))
    total = np.zeros((len(image), *size, num_classes))
    times = np.zeros((1, *size, num_classes))
    for row in range(ceil((size[0] - crop) / stride) + 1):
        for column in range(ceil((size[1] - crop) / stride) + 1):
            bottom, right = min(row * stride + crop, size[0]), min(column * stride + crop, size[1])
            seen = slice(max(bottom - crop, 0), bottom), slice(max(right - crop, 0), right)
            window = image[..., *seen]
            logits = upsampled(model, window, window.shape[-2:]).cpu().numpy().transpose(0, 2, 3, 1)
            times[0, *seen] += 1
            total[:, *seen] += logits
    total /= times
    labels = np.asarray(np.argmax(total, axis=3), dtype=np.uint8)
    return torch.from_numpy(_histogram(labels, mask.cpu().numpy(), num_classes))


def _histogram(prediction: NDArray[np.uint8], mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    valid = mask != IGNORE_INDEX
    cells = mask[valid].astype("int32") * num_classes + prediction[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
