"""Batches for training and evaluation.

Training draws from an endless stream of positions: position p = step x batch size + offset belongs to epoch p // n and
to the image permutation(seed, epoch)[p % n], augmented by f(seed, epoch, index). Nothing depends on workers, ranks or
where a run was interrupted.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ccnet.data.sample import LabelledImages, Sample
from ccnet.errors import DataError

Augmentation = Callable[[Sample, np.random.SeedSequence], Sample]


class Batch(TypedDict):
    """image: uint8 (B, 3, H, W) RGB; mask: uint8 (B, H, W); name: B names; region, where samples have one: uint8
    (B, H, W)."""

    image: Tensor
    mask: Tensor
    name: list[str]
    region: NotRequired[Tensor]


class Samples(Protocol):
    """Samples by number."""

    def __getitem__(self, index: int, /) -> Sample: ...


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The order of the images in an epoch."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(size)


class AugmentedStream(Dataset[Sample]):
    """The endless stream of augmented training samples, by position."""

    def __init__(self, dataset: LabelledImages, augmentation: Augmentation, seed: int) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, position: int) -> Sample:
        epoch, offset = divmod(position, len(self.dataset))
        index = int(permutation(self.seed, epoch, len(self.dataset))[offset])
        return self.augmentation(self.dataset[index], np.random.SeedSequence([self.seed, epoch, index]))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples of equal size; the image is channels-last in memory, as it was decoded.

    Raises:
        DataError: sizes that differ.
    """
    sizes = {sample["image"].shape[:2] for sample in samples}
    if len(sizes) > 1:
        raise DataError(f"images of different sizes {sorted(sizes)} in one batch; evaluate with batch size 1")
    image = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
    mask = torch.from_numpy(np.stack([sample["mask"] for sample in samples]))
    batch: Batch = {"image": image, "mask": mask, "name": [sample["name"] for sample in samples]}
    if "region" in samples[0]:
        batch["region"] = torch.from_numpy(np.stack([sample["region"] for sample in samples]))
    return batch


def train_batches(
    dataset: LabelledImages,
    augmentation: Augmentation,
    *,
    seed: int,
    batch_size: int,
    steps: range,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """The batches of the given steps, of which each rank gets its share.

    Args:
        batch_size: over all ranks.
        steps: a resumed run starts where it left off.

    Raises:
        DataError: a batch size that the ranks cannot share evenly.
    """
    if batch_size % world_size:
        raise DataError(f"trainer.batch_size={batch_size} cannot be shared by {world_size} ranks")
    share = batch_size // world_size
    positions = [
        list(range(step * batch_size + rank * share, step * batch_size + (rank + 1) * share)) for step in steps
    ]
    return _load(AugmentedStream(dataset, augmentation, seed), positions, workers)


def evaluation_batches(
    dataset: LabelledImages, *, batch_size: int = 1, workers: int = 0, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every image once, in order, shared by the ranks without padding."""
    indices = range(rank, len(dataset), world_size)
    batches = [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]
    return _load(dataset, batches, workers)


def _load(dataset: Samples, batches: Sequence[Sequence[int]], workers: int) -> Iterator[Batch]:
    loader: DataLoader[Sample] = DataLoader(
        dataset,  # type: ignore[arg-type]  # anything with samples by number serves,
        batch_sampler=batches,  # type: ignore[arg-type]  # and any iterable of index lists
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_single_thread if workers else None,
        generator=torch.Generator(),  # the default one belongs to the model
        pin_memory=torch.cuda.is_available(),
    )
    try:
        yield from loader
    except DataError as error:
        # A worker's exception arrives with its traceback as text; the cause is its last paragraph.
        raise DataError(str(error).rsplit("DataError: ", 1)[-1].strip()) from None


def _single_thread(_worker: int) -> None:
    """Workers share the cores with the model: OpenCV's own threads would only get in the way."""
    import cv2

    cv2.setNumThreads(0)
