"""One sample looked at: what its files store, and what the data set makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from ccnet.data.doctor.files import FileFacts, Size, read_files
from ccnet.data.sample import LabelledImages, Sample, SegmentationDataset, sample_files
from ccnet.data.workers import from_workers, start_worker

TIMEOUT = 300.0  # seconds that a sample may take a worker


@dataclass(frozen=True)
class SampleFacts:
    """What training gets.

    labels: pixels of each class index, and of 255.
    size: width and height.
    color_sums, color_squares: of all pixels, in red, green and blue on the 0..255 scale.
    """

    labels: dict[int, int]
    size: Size
    color_sums: tuple[int, ...]
    color_squares: tuple[int, ...]


@dataclass(frozen=True)
class Examination:
    """A sample after one reading.

    image, mask: the paths; the sample's number where the data set has no files, the image's where it has no masks.
    files: None where the data set has no files.
    sample: None where the data set refused it, with `error` as its reason.
    """

    image: str
    mask: str
    files: FileFacts | None
    sample: SampleFacts | None
    error: str | None


class Examinations(Dataset[Examination]):
    """Some samples of a data set, as examinations."""

    def __init__(self, dataset: LabelledImages, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Examination:
        return examine(self.dataset, self.indices[position])


def examine_all(dataset: LabelledImages, indices: Sequence[int], workers: int, label: str) -> list[Examination]:
    """Looks at samples, with a progress bar.

    Raises:
        DataError: a worker process died or hung.
    """
    examinations = Examinations(dataset, indices)
    loader: DataLoader[Examination] = DataLoader(
        examinations, batch_size=None, num_workers=workers, worker_init_fn=start_worker if workers else None
    )
    items = from_workers(loader, indices, TIMEOUT, partial(sample_files, dataset)) if workers else loader
    return list(track(items, label, len(indices), console=Console(stderr=True)))


def chosen(size: int, most: int | None, seed: int) -> list[int]:
    """Indices to look at, in order: all of them, or a random choice of at most so many."""
    if most is None or size <= most:
        return list(range(size))
    return sorted(np.random.default_rng(seed).choice(size, most, replace=False).tolist())


def examine(dataset: LabelledImages, index: int) -> Examination:
    """Looks at a sample; a refusal of the data set is kept, not raised."""
    pair = dataset.pairs[index] if isinstance(dataset, SegmentationDataset) else None
    image = sample_files(dataset, index)
    mask = str(pair.mask) if pair and pair.mask else image
    files = read_files(pair) if pair else None
    try:
        return Examination(image, mask, files, _facts(dataset[index]), None)
    except (OSError, ValueError) as error:
        return Examination(image, mask, files, None, str(error))


def _facts(sample: Sample) -> SampleFacts:
    height, width = sample["mask"].shape
    labels = {label: count for label, count in enumerate(np.bincount(sample["mask"].ravel()).tolist()) if count}
    histogram = np.reshape(Image.fromarray(sample["image"]).histogram(), (3, 256)).astype(np.int64)
    values = np.arange(256, dtype=np.int64)
    sums, squares = (histogram @ values).tolist(), (histogram @ values**2).tolist()
    return SampleFacts(labels, (width, height), tuple(sums), tuple(squares))
