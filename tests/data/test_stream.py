"""The training stream is a function of (seed, epoch, index), byte for byte, however it is loaded."""

import hashlib
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from ccnet.data.augmentation import ScaleCropFlip
from ccnet.data.folder import Folder
from ccnet.data.loader import AugmentedStream, Batch, StepPositions, evaluation_batches, train_batches
from ccnet.data.sample import Sample
from tests.conftest import write_folder

STEPS = 8  # of four images; the epochs of five images end within batches


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Five images."""
    root = write_folder(tmp_path_factory.mktemp("stream"), ("train",), count=5)
    return Folder(str(root), "train", ["dark", "bright"], [[0, 0, 0], [255, 255, 255]])


def digest(batch: Batch) -> str:
    """Names, pixels and labels."""
    hashed = hashlib.sha256(repr((batch["name"], batch["image"].shape, batch["mask"].shape)).encode())
    hashed.update(batch["image"].contiguous().numpy().tobytes())
    hashed.update(batch["mask"].numpy().tobytes())
    return hashed.hexdigest()


def digests(batches: Iterable[Batch]) -> list[str]:
    return [digest(batch) for batch in batches]


def stream(dataset: Folder, steps: range = range(STEPS), workers: int = 0, **extra: int) -> Iterator[Batch]:
    augmentation = ScaleCropFlip((24, 32))
    return train_batches(dataset, augmentation, **{"seed": 5, "batch_size": 4, **extra}, steps=steps, workers=workers)


@pytest.fixture(scope="module")
def expected(dataset: Folder) -> list[str]:
    """The stream as one process reads it from its beginning."""
    return digests(stream(dataset))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_change_nothing(workers: int, dataset: Folder, expected: list[str]) -> None:
    """Oracle: the stream without workers."""
    assert digests(stream(dataset, workers=workers)) == expected
    assert len(set(expected)) == STEPS


@pytest.mark.long
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_nor_does_the_way_workers_start(method: str, dataset: Folder, expected: list[str]) -> None:
    """Oracle: the stream without workers."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} here")
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        assert digests(stream(dataset, workers=2)) == expected
    finally:
        multiprocessing.set_start_method(before, force=True)


class ByPositions(Dataset[Batch]):
    """The stream as a data set for torch's own loader."""

    def __init__(self, stream: AugmentedStream) -> None:
        self.stream = stream

    def __getitem__(self, positions: range) -> Batch:
        return self.stream.batch(positions)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_stay_change_nothing(persistent: bool, dataset: Folder, expected: list[str]) -> None:
    """Oracle: the stream without workers, read twice by the same loader."""
    source = ByPositions(AugmentedStream(dataset, ScaleCropFlip((24, 32)), 5))
    positions = StepPositions(range(STEPS), 4, range(4))
    loader = DataLoader(source, batch_size=None, sampler=positions, num_workers=2, persistent_workers=persistent)
    assert [digests(loader), digests(loader)] == [expected, expected]


@pytest.mark.parametrize("start", range(STEPS))
def test_a_resumed_run_goes_on_where_it_left_off(start: int, dataset: Folder, expected: list[str]) -> None:
    """Oracle: the rest of the whole stream."""
    assert digests(stream(dataset, range(start, STEPS))) == expected[start:]
    if start == 3:
        assert digests(stream(dataset, range(start, STEPS), workers=2)) == expected[start:]


class Naive(Dataset[torch.Tensor]):
    """What most loaders do: a pipeline with a generator of its own."""

    def __init__(self, images: Folder) -> None:
        self.images = images
        self.pipeline = albumentations.Compose([albumentations.RandomCrop(16, 16)], seed=5)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.pipeline(image=self.images[index]["image"])["image"])


def test_epochs_differ_where_albumentations_alone_repeats_itself(dataset: Folder) -> None:
    """Oracle: the negative control, whose workers start each epoch from the same state; crops of each image by name."""
    loader = DataLoader(Naive(dataset), num_workers=2)
    first, second = (torch.cat(list(loader)) for _ in range(2))
    assert torch.equal(first, second)
    crops: dict[str, list[bytes]] = {}
    for batch in stream(dataset, range(3), workers=2, batch_size=5):
        for name, image in zip(batch["name"], batch["image"], strict=True):
            crops.setdefault(name, []).append(image.numpy().tobytes())
    assert [len(set(seen)) for seen in crops.values()] == [3] * 5


def test_overfitting_repeats_the_very_same_bytes(dataset: Folder, expected: list[str]) -> None:
    """Oracle: the first batches of the stream, also from a step on and by ranks."""
    found = digests(stream(dataset, overfit_batches=3))
    assert found == [expected[step % 3] for step in range(STEPS)]
    assert digests(stream(dataset, range(4, STEPS), workers=1, overfit_batches=3)) == found[4:]
    halves = [stream(dataset, range(4), overfit_batches=3, rank=rank, world_size=2) for rank in range(2)]
    whole = stream(dataset, range(4), overfit_batches=3)
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch["image"], torch.cat([part["image"] for part in parts]))


@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.integers(0, 50), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_ranks_share_every_batch(share: int, world_size: int, start: int, overfit: int) -> None:
    """Oracle: the positions of one rank; disjoint, and nothing missing."""
    size, steps = share * world_size, range(start, start + 5)
    whole = [list(positions) for positions in StepPositions(steps, size, range(size), overfit)]
    parts = [StepPositions(steps, size, range(rank * share, (rank + 1) * share), overfit) for rank in range(world_size)]
    assert [[position for part in step for position in part] for step in zip(*parts, strict=True)] == whole
    if not overfit:
        assert [position for step in whole for position in step] == list(range(start * size, (start + 5) * size))


def test_endless_runs_begin_at_once(dataset: Folder, expected: list[str]) -> None:
    """Oracle: the stream of a short run; a list of 10^12 steps would fill the memory."""
    assert len(StepPositions(range(10**12), 4, range(4))) == 10**12
    assert digests(islice(stream(dataset, range(10**12)), 2)) == expected[:2]


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("size", range(1, 10))
def test_evaluation_sees_each_image_once_over_all_ranks(dataset: Folder, size: int, world_size: int) -> None:
    """Oracle: the list of names; torch's DistributedSampler would repeat some to fill up."""
    images = Folder.__new__(Folder)
    images.__dict__.update(dataset.__dict__, pairs=(dataset.pairs * 2)[:size])
    for batch_size in (1, 2):
        shares = [
            [
                batch["name"]
                for batch in evaluation_batches(images, batch_size=batch_size, rank=rank, world_size=world_size)
            ]
            for rank in range(world_size)
        ]
        names = sorted(name for share in shares for batch in share for name in batch)
        assert names == sorted(pair.name for pair in images.pairs)
        assert all(len(batch) <= batch_size for share in shares for batch in share)


class Sized:
    """Images of given widths, called by their number."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = widths

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, index: int) -> Sample:
        width = self.widths[index]
        return {"image": np.zeros((2, width, 3), np.uint8), "mask": np.zeros((2, width), np.uint8), "name": str(index)}


@given(st.lists(st.integers(1, 3), min_size=1, max_size=12), st.integers(1, 5), st.sampled_from([1, 2, 4]))
@settings(max_examples=60, deadline=None)
def test_only_images_of_equal_size_are_evaluated_together(widths: list[int], batch_size: int, world_size: int) -> None:
    """Oracle: each rank's names in order, each in a batch of its own width; what could be put together by the rule, so
    many of a rank's images at a time and cut where the size changes, is together."""
    images: Any = Sized(widths)
    for rank in range(world_size):
        own = range(rank, len(widths), world_size)
        expected = [
            [str(index) for index in equals]
            for start in range(0, len(own), batch_size)
            for _, equals in groupby(own[start : start + batch_size], lambda index: widths[index])
        ]
        batches = [*evaluation_batches(images, batch_size=batch_size, rank=rank, world_size=world_size)]
        assert [batch["name"] for batch in batches] == expected
        for batch in batches:
            assert {(len(batch["name"]), 2, widths[int(name)]) for name in batch["name"]} == {batch["mask"].shape}


def test_workers_put_the_same_images_together() -> None:
    """Oracle: the batches without workers."""
    images: Any = Sized([3, 3, 1, 3, 3, 3, 3])
    for workers in (0, 2):
        batches = evaluation_batches(images, batch_size=3, workers=workers)
        assert [batch["name"] for batch in batches] == [["0", "1"], ["2"], ["3", "4", "5"], ["6"]]


def test_evaluation_does_not_depend_on_workers(dataset: Folder) -> None:
    """Oracle: the samples of the data set, in order."""
    whole = digests(evaluation_batches(dataset))
    assert digests(evaluation_batches(dataset, workers=2)) == whole
    for index, batch in enumerate(evaluation_batches(dataset, workers=1)):
        assert np.array_equal(batch["image"][0].permute(1, 2, 0).numpy(), dataset[index]["image"])
