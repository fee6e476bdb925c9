"""Out of memory: what was asked for, and which keys lower it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ccnet import distributed
from ccnet.errors import UserError

# The CPU's allocator on Linux and macOS, and on Windows; CUDA and MPS; a single tensor on MPS; cuDNN and cuBLAS;
# oneDNN, which does not say why; C++.
TEXTS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Invalid buffer size|STATUS_ALLOC_FAILED"
    r"|could not create a (primitive|memory)|could not execute a primitive|bad allocation|bad_alloc",
    re.IGNORECASE,
)
ASKED = re.compile(r"(?:tried to allocate|Invalid buffer size:) ([\d.]+ ?\w+)", re.IGNORECASE)


class OutOfMemoryError(UserError):
    """A computation needs more memory than there is."""


@contextmanager
def training_memory_errors(
    crop_size: Sequence[int] | None, batch_size: int, accumulation: int, activation_checkpointing: bool, precision: str
) -> Iterator[None]:
    """Training goes inside.

    Args:
        crop_size: height and width of a training image; None where the augmentation has no such key.
        batch_size: over all ranks.
        accumulation, activation_checkpointing, precision: of the trainer.

    Raises:
        OutOfMemoryError: in place of PyTorch's error, with the keys that still help and their values.
    """
    share = batch_size // distributed.world_size()
    more_parts = next((parts for parts in range(accumulation + 1, share + 1) if share % parts == 0), None)
    ways = []
    if more_parts:
        together = share // accumulation
        ways.append(
            f"trainer.accumulation={more_parts} (now {accumulation}: {together} images at a time) "
            f"or a smaller trainer.batch_size (now {batch_size})"
        )
    if not activation_checkpointing:
        ways.append("trainer.activation_checkpointing=true")
    if precision == "fp32":
        ways.append("trainer.precision=bf16")
    if crop_size is not None:
        ways.append(f"a smaller augmentation.crop_size (now {'x'.join(map(str, crop_size))})")
    with _explained("training", [*ways, "a smaller backbone"]):
        yield


@contextmanager
def inference_memory_errors() -> Iterator[None]:
    """A model is asked inside, or its answer looked at, in an evaluation or a prediction.

    Raises:
        OutOfMemoryError: in place of PyTorch's error.
    """
    ways = [
        "evaluation=sliding_window (--slide in val; windows change the score)",
        "smaller evaluation.crop_size, evaluation.scales or evaluation.batch_size",
        "evaluation.precision=bf16",
        "head.backend=chunked",
    ]
    with _explained("inference", ways):
        yield


@contextmanager
def _explained(what: str, ways: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not TEXTS.search(text):
            raise
        asked = ASKED.search(text)
        size = f"{_readable(asked[1])} more were asked for" if asked else "PyTorch does not say how much was asked for"
        raise OutOfMemoryError(f"{what} ran out of memory: {size}; lower it by {', '.join(ways)}") from error


def _readable(size: str) -> str:
    """Allocators of the CPU count in bytes."""
    number, _, unit = size.partition(" ")
    return f"{int(number) / 2**30:.2f} GiB" if unit == "bytes" and len(number) > 8 else size
