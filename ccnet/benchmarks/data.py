"""Samples of 769x769 out of files of 1024x2048: ours, with and without cache, against textbook albumentations."""

import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ccnet.benchmarks.measure import Row, Step, compare, interleaved, run, summary, threads
from ccnet.benchmarks.textbook_data import Textbook, decode_cv2, decode_pillow
from ccnet.data.augmentation import ScaleCropFlip
from ccnet.data.cache import CachedImages
from ccnet.data.cityscapes import CLASSES, label_table
from ccnet.data.sample import FilePair, LabelledImages, Sample, SegmentationDataset
from ccnet.data.streets import draw_scene
from ccnet.preparation.cache_writer import write_cache

NAME = "data"
TEXTBOOK, OURS, CACHED = "textbook", "ours", "ours, cached"
FLOORS = {"decode alone": decode_pillow, "decode alone (cv2)": decode_cv2}
SIZE, CROP = (1024, 2048), (769, 769)
IMAGES = 4  # different ones, in turns
CALLS = 16  # samples per measurement: as many scales and crops are averaged


@dataclass(frozen=True)
class Files:
    """Street scenes in files, and what is read of them.

    Attributes:
        folder: where they are written.
        suffix: .png or .jpg; the masks are PNG with labelIds, as those of Cityscapes.
    """

    folder: Path
    suffix: str

    def write(self) -> SegmentationDataset:
        """Draws the scenes, whose texture and noise make them as large and as slow to decode as photographs."""
        pairs = []
        for index in range(IMAGES):
            pair = FilePair(str(index), self.folder / f"{index}{self.suffix}", self.folder / f"{index}_mask.png")
            image, mask = draw_scene(np.random.default_rng(index), *SIZE)
            Image.fromarray(image).save(pair.image, quality=92)
            Image.fromarray(mask).save(self.folder / f"{index}_mask.png")
            pairs.append(pair)
        return SegmentationDataset(pairs, list(CLASSES), [color for _, color in CLASSES.values()], label_table())


def rows(quick: bool) -> Iterator[Row]:
    """Training samples 1024x2048 to 769x769: ours against textbook albumentations, decoding alone as the floor."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        with tempfile.TemporaryDirectory() as folder, threads(1):
            yield from run(list(steps(Path(folder), quick)))
    finally:
        cv2.setNumThreads(before)


def steps(folder: Path, quick: bool) -> Iterator[Step]:
    """Whole samples from PNG and from JPEG, and what comes after decoding."""
    seconds = 0.0 if quick else 60.0
    for suffix in (".png", ".jpg"):
        name = f"{'PNG' if suffix == '.png' else 'JPEG'} {shape(SIZE)} to {shape(CROP)}"
        yield name, functools.partial(whole, name, Files(folder, suffix), seconds)
    name = f"after decoding, {shape(SIZE)} to {shape(CROP)}"
    yield name, functools.partial(augmentation_alone, name, Files(folder, ".png"), seconds)


def shape(size: tuple[int, int]) -> str:
    """1024x2048."""
    return "x".join(map(str, size))


def whole(case: str, files: Files, seconds: float) -> Iterator[Row]:
    """From files to samples."""
    dataset, textbook = files.write(), Textbook(CROP)
    cache = files.folder / f"cache{files.suffix}"
    write_cache(dataset, cache)
    variants: dict[str, Callable[[int], object]] = {
        TEXTBOOK: lambda turn: textbook(*decode_cv2(dataset.pairs[turn % IMAGES])),
        OURS: ours(dataset),
        CACHED: ours(CachedImages(dataset, cache)),
    }
    for name, decode in FLOORS.items():
        variants[name] = functools.partial(lambda decode, turn: decode(dataset.pairs[turn % IMAGES]), decode)
    yield from timed(case, variants, seconds)


def augmentation_alone(case: str, files: Files, seconds: float) -> Iterator[Row]:
    """From decoded images to samples."""
    dataset, textbook = files.write(), Textbook(CROP)
    samples = [dataset[index] for index in range(IMAGES)]
    augment = ScaleCropFlip(CROP)
    variants: dict[str, Callable[[int], object]] = {
        TEXTBOOK: lambda turn: textbook(samples[turn % IMAGES]["image"], samples[turn % IMAGES]["mask"]),
        OURS: lambda turn: augment(samples[turn % IMAGES], np.random.SeedSequence(turn)),
    }
    yield from timed(case, variants, seconds)


def ours(dataset: LabelledImages) -> Callable[[int], Sample]:
    """What a worker does for a sample; copying it into a batch is left out here as with the textbook."""
    augment = ScaleCropFlip(CROP)
    return lambda turn: augment(dataset[turn % IMAGES], np.random.SeedSequence(turn))


def timed(case: str, variants: Mapping[str, Callable[[int], object]], seconds: float) -> Iterator[Row]:
    """Processor time per sample; then prints the samples per second that these times are."""
    turns = {name: itertools.count() for name in variants}
    calls = {name: functools.partial(lambda f, turn: f(next(turn)), f, turns[name]) for name, f in variants.items()}
    samples = interleaved(calls, seconds, calls=CALLS)
    measured = {name: summary(each.time) for name, each in samples.items()}
    yield from compare(NAME, case, "time", measured, TEXTBOOK, dict.fromkeys(FLOORS, "floor"))
    rates = ", ".join(f"{name} {1 / statistics.median(each.time):.1f}" for name, each in samples.items())
    print(f"  images/s per core: {rates}", flush=True)
