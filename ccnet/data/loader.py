"""Batches for training and evaluation.

Training draws from an endless stream of positions: position p = step x batch size + offset belongs to epoch p // n and
to the image permutation(seed, epoch)[p % n], augmented by f(seed, epoch, index). Nothing depends on workers, ranks or
where a run was interrupted.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from typing import Literal, NotRequired, TypedDict, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ccnet.data.bad_samples import TRIES, BadSamples, first_readable
from ccnet.data.sample import LabelledImages, Sample, sample_files
from ccnet.data.workers import from_workers, start_worker
from ccnet.errors import DataError, UserError

Augmentation = Callable[[Sample, np.random.SeedSequence], Sample]
Item = TypeVar("Item")


class Batch(TypedDict):
    """image: uint8 (B, 3, H, W) RGB; mask: uint8 (B, H, W); name: B names; region, where samples have one: uint8
    (B, H, W); skipped, where others took the place of images that cannot be read: what is wrong, by their index."""

    image: Tensor
    mask: Tensor
    name: list[str]
    region: NotRequired[Tensor]
    skipped: NotRequired[dict[int, str]]


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The order of the images in an epoch."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(size)


class AugmentedStream:
    """The endless stream of augmented training samples, by position.

    Args:
        tries: images, in the order of the epoch, of which the first that can be read is taken.
    """

    def __init__(self, dataset: LabelledImages, augmentation: Augmentation, seed: int, tries: int = 1) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.tries = tries

    def batch(self, positions: Sequence[int]) -> Batch:
        """The samples of some positions.

        Raises:
            DataError: an image, or as many in a row as there are tries, cannot be read.
        """
        skipped: dict[int, str] = {}
        batch = collate([self._sample(position, skipped) for position in positions])
        if skipped:
            batch["skipped"] = skipped
        return batch

    def index(self, position: int) -> int:
        """The image of a position."""
        return self._candidates(position, 1)[0]

    def _sample(self, position: int, skipped: dict[int, str]) -> Sample:
        candidates = self._candidates(position, self.tries)
        sample = first_readable(self.dataset, candidates, skipped)
        # A replacement is augmented by the seed of the image whose place it takes: it may be in the batch itself.
        return self.augmentation(sample, np.random.SeedSequence([self.seed, self._epoch(position), candidates[0]]))

    def _candidates(self, position: int, tries: int) -> list[int]:
        size = len(self.dataset)
        order = permutation(self.seed, self._epoch(position), size)
        return [int(order[(position + ahead) % size]) for ahead in range(min(tries, size))]

    def _epoch(self, position: int) -> int:
        return position // len(self.dataset)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stacks samples of equal size; the image is channels-last in memory, as it was decoded.

    Raises:
        DataError: sizes that differ.
    """
    sizes = {sample["image"].shape[:2] for sample in samples}
    if len(sizes) > 1:
        raise DataError(f"images of different sizes {sorted(sizes)} in one batch; set augmentation.crop_size")
    image = torch.from_numpy(np.stack([sample["image"] for sample in samples])).permute(0, 3, 1, 2)
    mask = torch.from_numpy(np.stack([sample["mask"] for sample in samples]))
    batch: Batch = {"image": image, "mask": mask, "name": [sample["name"] for sample in samples]}
    if "region" in samples[0]:
        batch["region"] = torch.from_numpy(np.stack([sample["region"] for sample in samples]))
    return batch


class StepPositions:
    """The positions of each step's batch, or of one rank's share of it, made when they are needed.

    Args:
        steps: that are to be taken.
        batch_size: over all ranks.
        share: the part of a batch, from 0 to its size, that is wanted.
        overfit_batches: step s takes the batch of step s % overfit_batches; 0 stands for ever new ones.
    """

    def __init__(self, steps: range, batch_size: int, share: range, overfit_batches: int = 0) -> None:
        self.steps, self.batch_size, self.share, self.overfit_batches = steps, batch_size, share, overfit_batches

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[range]:
        for step in self.steps:
            start = (step % self.overfit_batches if self.overfit_batches else step) * self.batch_size
            yield range(start + self.share.start, start + self.share.stop)


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
    overfit_batches: int = 0,
    timeout: float = 300.0,
    on_bad_sample: Literal["error", "skip"] = "error",
) -> Generator[Batch, None, None]:
    """The batches of the given steps, of which each rank gets its share.

    Args:
        batch_size: over all ranks.
        steps: a resumed run starts where it left off.
        overfit_batches: where positive, step s trains on the batch of step s % overfit_batches again.
        timeout: seconds to wait for a worker's batch.
        on_bad_sample: an image that cannot be read ends the run, or the epoch's next one that can be takes its place;
            each rank names those that it left out at the end; beyond its share of one in a thousand (`BadSamples`) it
            ends the run.

    Raises:
        DataError: a batch size that the ranks cannot share evenly, an image that cannot be read, too many of them, a
            worker that died or gave nothing in time.
    """
    if batch_size % world_size:
        raise DataError(f"trainer.batch_size={batch_size} cannot be shared by {world_size} ranks")
    share = batch_size // world_size
    stream = AugmentedStream(dataset, augmentation, seed, tries=TRIES if on_bad_sample == "skip" else 1)
    positions = StepPositions(steps, batch_size, range(rank * share, (rank + 1) * share), overfit_batches)
    batches = load(
        stream.batch, positions, workers, timeout, lambda wanted: listed_files(dataset, map(stream.index, wanted))
    )
    return batches if on_bad_sample == "error" else _counted(batches, BadSamples(len(dataset), world_size))


def evaluation_batches(
    dataset: LabelledImages,
    *,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    timeout: float = 300.0,
) -> Generator[Batch, None, None]:
    """Every image once, in order, shared by the ranks without padding; none is ever left out.

    The ranks take the images in turns. Only images of equal size that follow each other are put together.

    Args:
        batch_size: of the largest batches.

    Raises:
        DataError: an image that cannot be read, a worker that died or gave nothing in `timeout` seconds.
    """
    indices = range(rank, len(dataset), world_size)
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    for equals in load(partial(_read, dataset), batches, workers, timeout, partial(listed_files, dataset)):
        yield from equals


def _counted(batches: Iterator[Batch], bad: BadSamples) -> Generator[Batch, None, None]:
    try:
        for batch in batches:
            bad.add(batch.get("skipped", {}))
            yield batch
    finally:
        bad.report()


def _read(dataset: LabelledImages, indices: Iterable[int]) -> list[Batch]:
    samples = (dataset[index] for index in indices)
    return [collate([*equals]) for _, equals in groupby(samples, lambda sample: sample["image"].shape)]


def listed_files(dataset: LabelledImages, indices: Iterable[int]) -> str:
    """What a message calls some samples."""
    return ", ".join(sample_files(dataset, index) for index in indices)


class _Items(Dataset[Item | UserError]):
    """Batches, or what else is made of samples, by the numbers of these, read in a worker."""

    def __init__(self, read: Callable[[range], Item]) -> None:
        self.read = read

    def __getitem__(self, numbers: range) -> Item | UserError:
        try:
            return self.read(numbers)
        except UserError as error:
            return error  # raised there, it would arrive as the text of a traceback


def load(
    read: Callable[[range], Item],
    wanted: Iterable[range],
    workers: int,
    timeout: float,
    files: Callable[[range], str],
) -> Generator[Item, None, None]:
    """What `read` makes of each range of numbers, in order.

    Args:
        read: called in a worker, where there are any.
        wanted: the numbers of the samples that each item is made of.
        workers: processes that read.
        timeout: seconds to wait for an item.
        files: names samples by their numbers, for messages.

    Raises:
        UserError: what `read` raises.
        DataError: a worker that died or gave nothing in time.
    """
    loader: DataLoader[Item | UserError] = DataLoader(
        _Items(read),
        batch_size=None,  # samples come as whole batches,
        sampler=wanted,  # by the numbers of what is in them,
        num_workers=workers,
        worker_init_fn=start_worker if workers else None,
        generator=torch.Generator(),  # the default one belongs to the model
        pin_memory=torch.cuda.is_available(),
    )
    for item in from_workers(loader, wanted, timeout, files) if workers else loader:
        if isinstance(item, UserError):
            raise item
        yield item
        del item
