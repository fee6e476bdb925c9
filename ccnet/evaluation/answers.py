"""What a model answered about images: kept small, and looked at a few rows at a time.

Logits stay at the size in which they left the model. Maps of the size of the images come into being in blocks of
rows; whole ones are made only where somebody wants them.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ccnet.evaluation.maps import Maps, Softmax
from ccnet.out_of_memory import inference_memory_errors

FEWEST_ROWS = 32  # at a time: logits where two blocks meet are upsampled for both
CPU_BLOCK, BLOCK = 2**19, 2**24  # numbers at a time: what a core's cache holds, and what keeps an accelerator busy


class Answer(Maps, Protocol):
    """Maps of probabilities (B, C, H, W), of the size of the images; upsampled only where they are looked at."""


def row_blocks(answer: Maps) -> Iterator[tuple[slice, Tensor]]:
    """From top to bottom: a range of rows, and what `rows` gives for it (B, C, rows, W).

    Raises:
        OutOfMemoryError: with what takes less.
    """
    batch, classes, height, width = answer.shape
    top, count = 0, FEWEST_ROWS
    while top < height:
        bottom = min(top + count, height)
        with inference_memory_errors():
            block = answer.rows(top, bottom)
        yield slice(top, bottom), block
        most = CPU_BLOCK if block.device.type == "cpu" else BLOCK
        top, count = bottom, max(FEWEST_ROWS, most // (batch * classes * width))


@inference_memory_errors()
def labels(answer: Answer) -> Tensor:
    """The class of the highest probability, the lowest among equals: uint8 (B, H, W).

    Raises:
        OutOfMemoryError: with what takes less.
    """
    scores = answer.logits if isinstance(answer, Softmax) else answer
    return torch.cat([_highest(block) for _, block in row_blocks(scores)], dim=1)


@inference_memory_errors()
def labels_and_likelihood(answer: Answer, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Labels as above, and the probability of the true class.

    Args:
        answer: about B images.
        mask: their true classes, uint8 (B, H, W), on the device of the answer.

    Returns:
        uint8 (B, H, W), and float32 (B, H, W), which says nothing where the mask is no class.

    Raises:
        OutOfMemoryError: with what takes less.
    """
    scores = answer.logits if isinstance(answer, Softmax) else answer
    found, likelihood = [], []
    for rows, block in row_blocks(scores):
        found.append(_highest(block))
        shares = block if scores is answer else block.softmax(dim=1)
        true = mask[:, None, rows].long().clamp_max(answer.shape[1] - 1)
        likelihood.append(shares.gather(1, true).squeeze(1))
    return torch.cat(found, dim=1), torch.cat(likelihood, dim=1)


@inference_memory_errors()
def probabilities(answer: Answer) -> Tensor:
    """All of them: (B, C, H, W), float32.

    Raises:
        OutOfMemoryError: with what takes less.
    """
    blocks = row_blocks(answer)
    rows, block = next(blocks)
    everything = block.new_empty(answer.shape)
    everything[:, :, rows] = block
    for rows, block in blocks:
        everything[:, :, rows] = block
    return everything


def _highest(scores: Tensor) -> Tensor:
    """argmax(dim=1) in uint8; on a CPU it takes a tenth of the time."""
    classes = scores.shape[1]
    ranks = torch.arange(classes - 1, -1, -1, dtype=torch.uint8, device=scores.device)[:, None, None]
    is_highest = scores == scores.amax(dim=1, keepdim=True)
    return classes - 1 - (is_highest * ranks).amax(dim=1)
