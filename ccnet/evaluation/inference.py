"""From a model and images to class probabilities: whole images, sliding windows, scales and flips.

Every function is a `Predict`: (model, image (B, 3, H, W)) -> probabilities (B, C, H, W) at the image's own size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.out_of_memory import inference_memory_errors


class Outputs(Protocol):
    """What a segmentor returns."""

    logits: Tensor


Predict = Callable[[nn.Module, Tensor], Tensor]


def whole(model: nn.Module, image: Tensor) -> Tensor:
    """One forward pass over the whole image."""
    logits = model(image).logits.float()
    return _resize(logits, image.shape[-2:], bool(model.align_corners)).softmax(dim=1)


def sliding(crop_size: Sequence[int], stride: Sequence[int], batch_size: int = 1) -> Predict:
    """Overlapping windows; every pixel gets the mean over the windows that see it.

    The last window of a row or column is shifted inward instead of padded; an image smaller than the window in some
    direction is seen whole in that direction.
    """

    def predict(model: nn.Module, image: Tensor) -> Tensor:
        windows = list(_windows(image.shape[-2:], crop_size, stride))
        total, count = None, image.new_zeros(image.shape[-2:], dtype=torch.float32)
        for start in range(0, len(windows), batch_size):
            chunk = windows[start : start + batch_size]
            crops = torch.cat([image[..., rows, columns] for rows, columns in chunk])
            for (rows, columns), window in zip(chunk, whole(model, crops).split(image.shape[0]), strict=True):
                if total is None:
                    total = window.new_zeros(*window.shape[:2], *image.shape[-2:])
                total[..., rows, columns] += window
                count[rows, columns] += 1
        assert total is not None
        return total / count

    return predict


def mean_over_views(predict: Predict, scales: Sequence[float], flip: bool) -> Predict:
    """Mean of the probabilities over the image at each scale, and over its mirror image; views one at a time."""

    def predict_views(model: nn.Module, image: Tensor) -> Tensor:
        total: Tensor | None = None
        for view, mirrored in _views(image, scales, flip):
            probabilities = predict(model, view)
            probabilities = probabilities.flip(-1) if mirrored else probabilities
            probabilities = _resize(probabilities, image.shape[-2:], align_corners=False)
            total = probabilities if total is None else total.add_(probabilities)
        assert total is not None
        return total / (len(scales) * (1 + flip))

    return predict_views


class Inference:
    """How a model is asked: a `Predict` made from a configuration.

    Args:
        scales: factors of the image's size; the probabilities are averaged.
        flip: also asks for the mirrored image at each scale.
        crop_size: height and width of sliding windows; null sees the whole image.
        stride: step of the windows, down and right; two thirds of the crop, rounded up, where null.
        window_batch_size: windows in one forward pass.

    Raises:
        ValueError: no or non-positive scales, a stride without windows or beyond their size, no window at a time.
    """

    def __init__(
        self,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        window_batch_size: int = 1,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be positive numbers, got {list(scales)}")
        if window_batch_size < 1:
            raise ValueError(f"window_batch_size must be positive, got {window_batch_size}")
        for name, pair in (("crop_size", crop_size), ("stride", stride)):
            if pair is not None and len(pair) != 2:
                raise ValueError(f"{name} must be height and width, got {list(pair)}")
        if crop_size is None:
            if stride is not None:
                raise ValueError("a stride has no effect without crop_size")
            predict: Predict = whole
        else:
            stride = stride or [-(-2 * side // 3) for side in crop_size]
            if any(not 0 < step <= side for step, side in zip(stride, crop_size, strict=True)):
                raise ValueError(f"stride {list(stride)} must be positive and at most crop_size {list(crop_size)}")
            predict = sliding(crop_size, stride, window_batch_size)
        plain = list(scales) == [1.0] and not flip
        self.predict = predict if plain else mean_over_views(predict, scales, flip)

    @torch.inference_mode()
    def __call__(self, model: nn.Module, image: Tensor) -> Tensor:
        """(B, 3, H, W) RGB 0..255 -> probabilities (B, C, H, W), float32; the model must be in eval mode.

        Raises:
            OutOfMemoryError: with what takes less.
        """
        with inference_memory_errors():
            return self.predict(model, image)


def _resize(maps: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    return maps if maps.shape[-2:] == tuple(size) else F.interpolate(maps, size, mode="bilinear",
                                                                     align_corners=align_corners)  # fmt: skip


def _views(image: Tensor, scales: Sequence[float], flip: bool) -> Iterator[tuple[Tensor, bool]]:
    for scale in scales:
        size = [max(1, round(side * scale)) for side in image.shape[-2:]]
        view = _resize(image.float(), size, align_corners=False)
        yield view, False
        if flip:
            yield view.flip(-1), True


def _windows(size: Sequence[int], crop_size: Sequence[int], stride: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    starts = [
        sorted({min(start, max(0, side - crop)) for start in range(0, max(1, side - crop + step), step)})
        for side, crop, step in zip(size, crop_size, stride, strict=True)
    ]
    for top in starts[0]:
        for left in starts[1]:
            yield slice(top, min(top + crop_size[0], size[0])), slice(left, min(left + crop_size[1], size[1]))
