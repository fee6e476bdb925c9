"""The evaluation of an image: ours against whole maps as textbooks make them, and against the official windows."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.allocator import keep_freed_memory
from ccnet.benchmarks import textbook_evaluation as textbook
from ccnet.benchmarks.measure import Measured, Row, Step, compare, interleaved, run, summary, threads
from ccnet.benchmarks.memory import Call, can_measure_peak, peak_memory
from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.evaluation.answers import labels, labels_and_likelihood
from ccnet.evaluation.inference import Inference, Model
from ccnet.evaluation.metrics import ConfusionMatrix, mean_loss
from ccnet.models.segmentor import Segmentor, SegmentorOutput

NAME = "evaluation"
TEXTBOOK, OFFICIAL = "textbook", "official (NumPy)"
OURS, OURS_OF_LOGITS, FORWARD = "ours", "ours, of logits", "forward passes"
VIEW, LOSS, VIEWS, WINDOWS = "1 view", "1 view and validation loss", "flip and 3 scales", "windows"
CLASSES, STRIDE, SIZE, CROP, SCALES = 19, 8, (1024, 2048), 769, (0.75, 1.0, 1.25)
QUICK_SIZE, QUICK_CROP = (512, 1024), 385  # with a network


@dataclass(frozen=True)
class Work:
    """From an image and its mask, on the device, to counts. Can be pickled, so that a child process can build it too.

    Attributes:
        variant: who does it.
        views: how the model is asked.
        network: whether the model is `network`; else it is `Recorded`.
        device: "cpu" or "cuda".
        size: height and width of the image.
        crop: side of a window.
    """

    variant: str
    views: str
    network: bool = False
    device: str = "cpu"
    size: tuple[int, int] = SIZE
    crop: int = CROP

    def __str__(self) -> str:
        windows = f" of {self.crop}" if self.views == WINDOWS else ""
        height, width = self.size
        model = "network" if self.network else f"logits {CLASSES}x{height // STRIDE}x{width // STRIDE}"
        return f"{self.views}{windows}, {model}, image {height}x{width}{', cuda' if self.device == 'cuda' else ''}"

    def build(self) -> Call:
        """The call to be measured."""
        model, image, mask = self.given()
        if self.variant == OFFICIAL:
            return lambda: textbook.count_windows(model, image, mask, self.crop, CLASSES)
        if self.variant == TEXTBOOK:
            if self.views == VIEWS:
                return lambda: textbook.count_views(model, image, mask, SCALES)
            count = textbook.count_view if self.views == VIEW else textbook.count_view_and_loss
            return lambda: count(model, image, mask)
        several, crop = self.views == VIEWS, (self.crop, self.crop) if self.views == WINDOWS else None
        inference = Inference(SCALES if several else (1.0,), flip=several, crop_size=crop,
                              average="logits" if self.variant == OURS_OF_LOGITS else "probabilities")  # fmt: skip
        if self.variant == FORWARD:
            return forward_passes(inference, model, image)
        return functools.partial(ours_with_loss if self.views == LOSS else ours, inference, model, image, mask)

    def build_tiny(self) -> Call:
        """The call at a size that only wakes the libraries."""
        return replace(self, size=(64, 128), crop=48).build()

    def given(self) -> tuple[Model, Tensor, Tensor]:
        """A model, an image of noise, and patches as its mask, of which 5 % is ignored."""
        torch.manual_seed(0)
        patches = torch.randint(0, CLASSES, (1, 1, 8, 16)).float()
        mask = F.interpolate(patches, self.size)[:, 0].byte()
        mask = mask.masked_fill(torch.rand(mask.shape) < 0.05, 255).to(self.device)
        image = torch.randint(0, 256, (1, 3, *self.size), dtype=torch.uint8).to(self.device)
        return (network(self.device) if self.network else Recorded(self.size, self.device)), image, mask


@functools.cache
def network(device: str) -> Segmentor:
    """That of configs/train.yaml, untrained."""
    return build_model(compose_config([]), CLASSES, pretrained=False).eval().to(device)


class Recorded:
    """A model that knows its answers: a forward pass is a copy. They are smooth; mostly one class is well ahead."""

    align_corners = False

    def __init__(self, size: Sequence[int], device: str) -> None:
        height, width = (-(-side * 5 // (4 * STRIDE)) for side in size)  # of the largest scale
        smooth = F.interpolate(
            4 * torch.randn(1, CLASSES, height // 8 + 1, width // 8 + 1), (height, width), mode="bilinear"
        )
        self.logits = (smooth + torch.randn(1, CLASSES, height, width) / 2).to(device)

    def __call__(self, image: Tensor) -> SegmentorOutput:
        height, width = (-(-side // STRIDE) for side in image.shape[-2:])
        return SegmentorOutput(self.logits[..., :height, :width].repeat(len(image), 1, 1, 1))


def ours(inference: Inference, model: Model, image: Tensor, mask: Tensor) -> Tensor:
    """The confusion matrix."""
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(labels(inference.answer(model, image)), mask)
    return matrix.counts


def ours_with_loss(inference: Inference, model: Model, image: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    """The confusion matrix and the mean cross entropy."""
    matrix = ConfusionMatrix(CLASSES)
    found, likelihood = labels_and_likelihood(inference.answer(model, image), mask)
    matrix.update(found, mask)
    return matrix.counts, mean_loss(likelihood[0], mask[0])


def forward_passes(inference: Inference, model: Model, image: Tensor) -> Call:
    """The model alone, on all that it is shown."""
    shown: list[Tensor] = []

    class Watched:
        align_corners = model.align_corners

        def __call__(self, view: Tensor) -> SegmentorOutput:
            shown.append(view)
            return model(view)

    inference.answer(Watched(), image)

    @torch.inference_mode()
    def call() -> None:
        for view in shown:
            model(view)

    return call


def rows(quick: bool) -> Iterator[Row]:
    """Evaluation of 1024x2048, 19 classes: one view, flip and scales, windows; against textbook and official code."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    keep_freed_memory(torch.device("cpu"))  # as val does
    with threads(1):
        yield from run([step for device in devices for step in steps(device, quick)])


def steps(device: str, quick: bool) -> Iterator[Step]:
    """All that is not the forward pass, in time and memory; then time with one."""
    seconds = 0.0 if quick else 30.0
    for views in (VIEW, LOSS, VIEWS, WINDOWS):
        works = variants(Work(OURS, views, device=device))
        yield str(works[0]), functools.partial(time_rows, works, seconds)
        if can_measure_peak(device):
            yield f"memory, {works[0]}", functools.partial(memory_rows, works)
    size, crop = (QUICK_SIZE, QUICK_CROP) if quick else (SIZE, CROP)
    for views in (VIEWS, WINDOWS):
        work = Work(OURS, views, network=True, device=device, size=size, crop=crop)
        yield str(work), functools.partial(time_rows, [*variants(work), replace(work, variant=FORWARD)], seconds)


def variants(work: Work) -> list[Work]:
    """The baseline, and ours."""
    names = [OFFICIAL, OURS_OF_LOGITS, OURS] if work.views == WINDOWS else [TEXTBOOK, OURS]
    return [replace(work, variant=name) for name in names]


def time_rows(works: Sequence[Work], seconds: float) -> Iterator[Row]:
    """Processor time of all against the first."""
    calls = {work.variant: work.build() for work in works}
    samples = interleaved(calls, seconds, device=works[0].device)
    times = {name: summary(each.time) for name, each in samples.items()}
    yield from compare(NAME, str(works[0]), "time", times, works[0].variant, {FORWARD: "floor"})


def memory_rows(works: Sequence[Work]) -> Iterator[Row]:
    """Peak memory of all against the first."""
    peaks = {work.variant: Measured(peak_memory(work.build, work.build_tiny, work.device)) for work in works}
    yield from compare(NAME, str(works[0]), "memory", peaks, works[0].variant)
