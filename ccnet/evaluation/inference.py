"""How a model is asked about images: whole, in sliding windows, at several scales, mirrored.

The functions compose. Each is, takes or makes a `Predict`: (model, image (B, 3, h, w), size (H, W)) -> maps
(B, C, H, W), where the image may be a view of one of that size: smaller, larger, mirrored.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.evaluation.answers import Answer, probabilities
from ccnet.evaluation.maps import Held, Maps, Mean, Mirrored, Resized, Softmax, Windows
from ccnet.out_of_memory import inference_memory_errors

LARGEST_SCALE = 16
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Outputs(Protocol):
    """What a model returns: logits (B, C, h, w), at any stride."""

    logits: Tensor


class Model(Protocol):
    """Takes images (B, 3, H, W) RGB 0..255, returns `Outputs`; says how their logits are upsampled."""

    align_corners: Any

    def __call__(self, image: Tensor, /) -> Any: ...


Predict = Callable[[Model, Tensor, Sequence[int]], Maps]
Finish = Callable[[Maps], Maps]


def unchanged(logits: Maps) -> Maps:
    """Leaves the softmax to whoever comes later."""
    return logits


def whole(finish: Finish = Softmax) -> Predict:
    """One forward pass over the whole image; `finish` is what becomes of its logits."""

    def predict(model: Model, image: Tensor, size: Sequence[int]) -> Maps:
        return finish(Resized(Held(_logits(model, image)), size, bool(model.align_corners)))

    return predict


def sliding(crop_size: Sequence[int], stride: Sequence[int], batch_size: int = 1, finish: Finish = Softmax) -> Predict:
    """Overlapping windows; every pixel gets the mean over the windows that see it.

    The last window of a row or column is shifted inward instead of padded; an image smaller than the window in some
    direction is seen whole in that direction.

    Args:
        crop_size, stride: height and width.
        batch_size: windows in one forward pass.
        finish: what becomes of a window's logits before the mean.
    """

    def predict(model: Model, image: Tensor, size: Sequence[int]) -> Maps:
        places = list(_windows(image.shape[-2:], crop_size, stride))
        windows: list[tuple[int, int, Maps]] = []
        for start in range(0, len(places), batch_size):
            some = places[start : start + batch_size]
            crops = torch.cat([image[..., rows, columns] for rows, columns in some])
            for (rows, columns), own in zip(some, _logits(model, crops).split(len(image)), strict=True):
                seen = Resized(Held(own), crops.shape[-2:], bool(model.align_corners))
                windows.append((rows.start, columns.start, finish(seen)))
        return Resized(Windows(windows, image.shape[-2:]), size, align_corners=False)

    return predict


def mean_over_views(predict: Predict, scales: Sequence[float], flip: bool) -> Predict:
    """The mean over the image at each scale, and over its mirror image; views one at a time."""

    def predict_views(model: Model, image: Tensor, size: Sequence[int]) -> Maps:
        views: list[Maps] = []
        for scale in scales:
            view = _scaled(image, scale)
            views.append(predict(model, view, size))
            if flip:
                views.append(Mirrored(predict(model, view.flip(-1), size)))
        return Mean(views) if len(views) > 1 else views[0]

    return predict_views


class Inference:
    """How a model is asked, made from a configuration.

    Args:
        scales: factors of the image's size, at most 16; the answers are averaged.
        flip: also asks for the mirrored image at each scale.
        crop_size: height and width of sliding windows; null sees the whole image.
        stride: step of the windows, down and right; two thirds of the crop, rounded up, where null.
        average: what is averaged over views and windows: probabilities, or logits, with the softmax at the end.
        batch_size: images in one forward pass, or windows where there are some.
        precision: number format of the forward pass; scores are float32 anyway.

    Attributes:
        batch_size: images of one size that the caller had better put together; 1 where windows fill the batch.
        crop_size: as given.

    Raises:
        ValueError: no scales, or one outside of 0..16, a stride without windows or beyond their size, no image at a
            time, an unknown average or precision.
    """

    def __init__(
        self,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        average: Literal["probabilities", "logits"] = "probabilities",
        batch_size: int = 1,
        precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    ) -> None:
        if not scales or not all(0 < scale <= LARGEST_SCALE for scale in scales):
            raise ValueError(f"scales must be positive numbers of at most {LARGEST_SCALE}, got {list(scales)}")
        if average not in ("probabilities", "logits"):
            raise ValueError(f"average must be probabilities or logits, got {average}")
        if precision not in AUTOCAST:
            raise ValueError(f"precision must be one of {', '.join(AUTOCAST)}, got {precision}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        self.scales, self.flip, self.average, self.precision = scales, flip, average, precision
        self.crop_size = crop_size
        finish: Finish = Softmax if average == "probabilities" else unchanged
        self.finish: Finish = unchanged if average == "probabilities" else Softmax
        if crop_size is None:
            if stride is not None:
                raise ValueError("a stride has no effect without crop_size")
            self.batch_size, predict = batch_size, whole(finish)
        else:
            stride = _checked(crop_size, stride or [-(-2 * side // 3) for side in crop_size])
            self.batch_size, predict = 1, sliding(crop_size, stride, batch_size, finish)
        self.predict = mean_over_views(predict, scales, flip)

    @torch.inference_mode()
    def answer(self, model: Model, image: Tensor) -> Answer:
        """What the model, which must be in eval mode, says about images (B, 3, H, W) RGB 0..255 of any size.

        Raises:
            OutOfMemoryError: with what takes less.
        """
        dtype = AUTOCAST[self.precision]
        with inference_memory_errors(), torch.autocast(image.device.type, dtype, enabled=dtype is not None):
            return self.finish(self.predict(model, image, image.shape[-2:]))

    def __call__(self, model: Model, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) RGB 0..255 -> probabilities (B, C, H, W), float32.

        Raises:
            OutOfMemoryError: with what takes less.
        """
        return probabilities(self.answer(model, image))

    def tiled(self, side: int) -> "Inference":
        """The same views in square windows, with a stride of two thirds and one at a time: takes less memory."""
        return Inference(self.scales, self.flip, (side, side), None, self.average, 1, self.precision)


def _scaled(image: Tensor, scale: float) -> Tensor:
    size = [max(1, round(side * scale)) for side in image.shape[-2:]]
    if size == list(image.shape[-2:]):
        return image
    return F.interpolate(image.float(), size, mode="bilinear", align_corners=False)


def _logits(model: Model, images: Tensor) -> Tensor:
    return model(images).logits.float()


def _checked(crop_size: Sequence[int], stride: Sequence[int]) -> Sequence[int]:
    for name, pair in (("crop_size", crop_size), ("stride", stride)):
        if len(pair) != 2:
            raise ValueError(f"{name} must be height and width, got {list(pair)}")
    if any(not 0 < step <= side for step, side in zip(stride, crop_size, strict=True)):
        raise ValueError(f"stride {list(stride)} must be positive and at most crop_size {list(crop_size)}")
    return stride


def _windows(size: Sequence[int], crop_size: Sequence[int], stride: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    starts = [
        sorted({min(start, max(0, side - crop)) for start in range(0, max(1, side - crop + step), step)})
        for side, crop, step in zip(size, crop_size, stride, strict=True)
    ]
    for top in starts[0]:
        for left in starts[1]:
            yield slice(top, min(top + crop_size[0], size[0])), slice(left, min(left + crop_size[1], size[1]))
