"""Asking a model about images in the memory that there is: together, one by one, in tiles, in smaller tiles."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccnet.allocator import return_freed_memory
from ccnet.errors import UserError
from ccnet.evaluation.answers import Answer, labels, row_blocks
from ccnet.evaluation.inference import Inference, Model
from ccnet.out_of_memory import OutOfMemoryError, inference_memory_errors
from ccnet.visualize import Mask, Rgb

SMALLEST_TILE = 128  # below it little is left that context could tell

logger = logging.getLogger("ccnet")


@dataclass(frozen=True)
class Prediction:
    """What a model says about an image.

    Args:
        mask: uint8 (H, W), class indices.
        confidence: uint8 (H, W), the highest probability on the scale 0..255, where it was asked for.
        probabilities: (C, H, W), where they were asked for.
        tile: side of the tiles that were needed; None for an image that was asked about as the configuration says.
    """

    mask: Mask
    confidence: Mask | None = None
    probabilities: NDArray[np.floating] | None = None
    tile: int | None = None


@dataclass(frozen=True)
class Way:
    """How images of one size are asked about: at most so many at once, in tiles of this side where it is set."""

    batch: int
    tile: int | None = None

    def cheaper(self, batch: int, size: tuple[int, int], windows: Sequence[int] | None = None) -> "Way | None":
        """What takes less memory: half of the batch that failed, then tiles of half the side (a power of two).

        Args:
            batch: images that failed.
            size: of each (H, W).
            windows: height and width of those of the configuration, several of which may be asked about at once: the
                first tiles may be as large.
        """
        if batch > 1:
            return Way(batch // 2, self.tile)
        longest = max(size) if self.tile is None else self.tile
        if self.tile is None and windows is not None:
            longest = min(longest, min(windows) + 1)
        tile = 1 << ((longest - 1).bit_length() - 1) if longest > 1 else 0
        return Way(1, tile) if tile >= SMALLEST_TILE else None


class Asking:
    """Asks a model, in eval mode, about images, and remembers what their size takes.

    Args:
        model: on `device`.
        inference: how it is asked.
        device: of the model.

    Attributes:
        ways: by the size (H, W) of images that did not fit into memory, what did.
    """

    def __init__(self, model: Model, inference: Inference, device: torch.device) -> None:
        self.model, self.inference, self.device = model, inference, device
        self.ways: dict[tuple[int, int], Way] = {}

    def __call__(
        self, images: Sequence[Rgb], *, confidence: bool = False, probabilities: type[np.floating] | None = None
    ) -> Iterator[Prediction]:
        """Predictions of images (H, W, 3) of one size, in their order.

        Args:
            images: RGB 0..255.
            confidence: whether it is wanted.
            probabilities: their type (float16 or float32) where they are wanted.

        Raises:
            OutOfMemoryError: not even the smallest tiles fit; from the first image on that was not yielded.
            UserError: the answer is NaN, likewise.
        """
        done = 0
        while done < len(images):
            height, width = images[0].shape[:2]
            way = self.ways.get((height, width), Way(self.inference.batch_size))
            found = self._tried(images[done : done + way.batch], way, confidence, probabilities)
            if isinstance(found, str):
                self._give_way((height, width), way, len(images[done : done + way.batch]), found)
            else:
                yield from found
                done += len(found)

    def _tried(
        self, images: Sequence[Rgb], way: Way, confidence: bool, probabilities: type[np.floating] | None
    ) -> list[Prediction] | str:
        """The predictions, or a message: an error would keep alive what filled the memory."""
        inference = self.inference if way.tile is None else self.inference.tiled(way.tile)
        try:
            with inference_memory_errors():
                batch = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2)
                model = _Watched(self.model)
                answer = inference.answer(model, batch)
                model.require_numbers()
                masks = labels(answer).cpu().numpy()
                highest, maps = _looked_at(answer, confidence, probabilities)
        except (OutOfMemoryError, MemoryError) as error:
            return str(error)
        each = range(len(images))
        return [
            Prediction(
                masks[i], None if highest is None else highest[i].numpy(), None if maps is None else maps[i], way.tile
            )
            for i in each
        ]

    def _give_way(self, size: tuple[int, int], way: Way, batch: int, message: str) -> None:
        return_freed_memory(self.device)
        cheaper = way.cheaper(batch, size, self.inference.crop_size)
        if cheaper is None:
            raise OutOfMemoryError(f"{message}; not even tiles of {SMALLEST_TILE} pixels fit")
        self.ways[size] = cheaper
        how = f"{cheaper.batch} at a time" if cheaper.tile is None else f"in tiles of {cheaper.tile} pixels"
        logger.warning("out of memory: images of %dx%d are asked about %s from here on", *size, how)


class _Watched:
    """A model, and whether each of its logits was a number. The device is waited for once, at the end."""

    def __init__(self, model: Model) -> None:
        self.model, self.align_corners = model, model.align_corners
        self.are_numbers: list[Tensor] = []

    def __call__(self, image: Tensor, /) -> Any:
        outputs = self.model(image)
        highest = outputs.logits.amax(dim=1)  # -inf is how a model may rule a class out
        self.are_numbers.append(highest.isfinite().all())
        return outputs

    def require_numbers(self) -> None:
        if not torch.stack(self.are_numbers).all():
            raise UserError("the model answers NaN; leave out --amp, or take another checkpoint")


def _looked_at(
    answer: Answer, confidence: bool, probabilities: type[np.floating] | None
) -> tuple[Tensor | None, NDArray[np.floating] | None]:
    """Highest probabilities, uint8 (B, H, W), and all of them (B, C, H, W), each where it is wanted, on the CPU."""
    if not confidence and probabilities is None:
        return None, None
    highest = []
    maps = None if probabilities is None else np.empty(answer.shape, probabilities)
    for rows, block in row_blocks(answer):
        if confidence:
            highest.append((block.amax(dim=1) * 255).round().byte().cpu())
        if maps is not None:
            maps[:, :, rows] = block.cpu().numpy()
    return torch.cat(highest, dim=1) if confidence else None, maps
