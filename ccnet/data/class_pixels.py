"""How many pixels of each class a data set has."""

from collections.abc import Iterable
from functools import partial
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ccnet.data.bad_samples import BadSamples
from ccnet.data.loader import listed_files, load
from ccnet.data.sample import LabelledImages
from ccnet.errors import DataError


def class_pixels(
    dataset: LabelledImages,
    *,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    timeout: float = 300.0,
    on_bad_sample: Literal["error", "skip"] = "error",
) -> Tensor:
    """Reads every mask of this rank's share once, and no image, with a progress bar on the first rank.

    Args:
        dataset: whose masks are read.
        workers: processes that read.
        rank, world_size: of the ranks that share the masks.
        timeout: seconds to wait for a worker.
        on_bad_sample: a mask that cannot be read is an error, or is left out, named, and counted as by `BadSamples`.

    Returns:
        int64 (num_classes,).

    Raises:
        DataError: a mask that cannot be read, too many of them, a worker that died or gave nothing in time.
    """
    indices = [range(index, index + 1) for index in range(rank, len(dataset), world_size)]
    read = partial(_count, dataset, skip=on_bad_sample == "skip")
    counts = load(read, indices, workers, timeout, partial(listed_files, dataset))
    pixels, bad = torch.zeros(256, dtype=torch.int64), BadSamples(len(dataset), world_size)
    console = Console(stderr=True)
    for counted, skipped in track(counts, "counting label pixels", len(indices), console=console, disable=rank > 0):
        bad.add(skipped)
        pixels += counted
    bad.report()
    return pixels[: dataset.num_classes]


def _count(dataset: LabelledImages, indices: Iterable[int], *, skip: bool) -> tuple[Tensor, dict[int, str]]:
    """Pixels of each label, int64 (256,), and what is wrong with the masks that were left out."""
    pixels, skipped = torch.zeros(256, dtype=torch.int64), {}
    for index in indices:
        try:
            pixels += torch.tensor(dataset.labels(index)).flatten().bincount(minlength=256)
        except DataError as error:
            if not skip:
                raise
            skipped[index] = str(error)
    return pixels, skipped
