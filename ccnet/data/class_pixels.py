"""How many pixels of each class a data set has."""

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from ccnet.data.loader import evaluation_batches
from ccnet.data.sample import LabelledImages


def class_pixels(dataset: LabelledImages, *, workers: int = 0, rank: int = 0, world_size: int = 1) -> Tensor:
    """Reads every sample of this rank's share once, with a progress bar on the first rank: int64 (num_classes,)."""
    batches = evaluation_batches(dataset, workers=workers, rank=rank, world_size=world_size)
    total, console = len(range(rank, len(dataset), world_size)), Console(stderr=True)
    pixels = torch.zeros(256, dtype=torch.int64)
    for batch in track(batches, "counting label pixels", total, console=console, disable=rank > 0):
        pixels += batch["mask"].flatten().bincount(minlength=256)
    return pixels[: dataset.num_classes]
