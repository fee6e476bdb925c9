"""Every loss of configs/loss against plain cross entropy on the upsampled logits, and OHEM against the official way."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.allocator import keep_freed_memory
from ccnet.benchmarks.measure import Measured, Row, Step, compare, interleaved, run, summary, threads
from ccnet.benchmarks.memory import Call, can_measure_peak, peak_memory
from ccnet.benchmarks.official_ohem import official_mask, official_ohem
from ccnet.build import build_part
from ccnet.config import compose_config
from ccnet.config_errors import CONFIG_DIR
from ccnet.losses.ohem import OHEM
from ccnet.losses.weighted import WeightedLoss
from ccnet.models.segmentor import SegmentorOutput

NAME = "losses"
OTHER_CLASSES = {"cross_entropy_camvid"}  # class weights for other data
OURS = sorted({path.stem for path in (CONFIG_DIR / "loss").glob("*.yaml")} - OTHER_CLASSES)
OHEMS = ["ohem", "ohem_official"]
TORCH = "cross_entropy (torch)"
PORT = "official ohem (cpu port)"
CLASSES, DIMENSIONS = 19, 16
SMALL, LARGE = 97, 769  # side of the logits and of the mask


@dataclass(frozen=True)
class Work:
    """A call to be measured. It can be pickled, so that a child process can build it too.

    Attributes:
        variant: a name of `OURS`, `TORCH` or `PORT`.
        device: "cpu" or "cuda".
        small, large: side of logits and features, and of the mask; two images, float32.
    """

    variant: str
    device: str = "cpu"
    small: int = SMALL
    large: int = LARGE

    def __str__(self) -> str:
        """The part of a case's name that this work gives."""
        device = " CUDA" if self.device == "cuda" else ""
        return f"2x{CLASSES}x{self.small}x{self.small} to {self.large}x{self.large}{device}"

    def build(self) -> Call:
        """The loss and its gradient, from the small logits, upsampling included."""
        logits, features, mask = self.batch()
        if self.variant in (TORCH, PORT):
            loss = functools.partial(F.cross_entropy, ignore_index=255) if self.variant == TORCH else official_ohem
            return lambda: torch.autograd.grad(loss(self.upsampled(logits), mask), logits)
        ours, outputs = self.loss(), SegmentorOutput(logits, None, features)
        leaves = [logits, features] if ours.uses_features else [logits]
        return lambda: torch.autograd.grad(torch.stack(list(ours(outputs, mask).values())).sum(), leaves)

    def build_mining(self) -> Call:
        """What OHEM computes beside the cross entropy: which of the pixels of the upsampled logits count."""
        small_logits, _, mask = self.batch()
        logits = self.upsampled(small_logits).detach()
        if self.variant == PORT:
            return lambda: official_mask(logits, mask)
        ohem = self.loss().terms["ohem"]
        assert isinstance(ohem, OHEM)
        pixel_losses = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
        return lambda: ohem.kept(pixel_losses, logits, mask)

    def build_tiny(self) -> Call:
        """The call at a size that only wakes the libraries."""
        return replace(self, small=3, large=17).build()

    def loss(self) -> WeightedLoss:
        """One of ours, as its YAML says."""
        return build_part(compose_config([f"loss={self.variant}"]).loss, align_corners=False).to(self.device)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits that mostly know the classes of patches, features, and the mask, of which 5 % is ignored."""
        torch.manual_seed(0)
        patches = torch.randint(0, CLASSES, (2, 1, 9, 9)).float()
        known = F.interpolate(patches, (self.small, self.small))[:, 0].long()
        mask = F.interpolate(patches, (self.large, self.large))[:, 0].long()
        logits = torch.randn(2, CLASSES, self.small, self.small) + 4 * F.one_hot(known, CLASSES).permute(0, 3, 1, 2)
        features = torch.randn(2, DIMENSIONS, self.small, self.small)
        mask = mask.masked_fill(torch.rand(mask.shape) < 0.05, 255)
        logits, features = (each.contiguous().to(self.device).requires_grad_() for each in (logits, features))
        return logits, features, mask.to(self.device)

    def upsampled(self, logits: Tensor) -> Tensor:
        """The logits at the mask's size."""
        return F.interpolate(logits, (self.large, self.large), mode="bilinear", align_corners=False)


def rows(quick: bool) -> Iterator[Row]:
    """Losses: every YAML against plain cross entropy, OHEM against the official CPU code; time and memory."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    keep_freed_memory(torch.device("cpu"))  # as a run does; page faults would be half of the time, and vary
    yield from run([step for device in devices for step in steps(device, quick)])


def steps(device: str, quick: bool) -> list[Step]:
    """Forward and backward of all, OHEM beside the official code, in whole and without what both share, and memory."""
    work, seconds = Work(TORCH, device), 0.0 if quick else 60.0
    everything = [replace(work, variant=name) for name in (TORCH, *OURS)]
    hard = [replace(work, variant=name) for name in (PORT, *OHEMS)]
    groups = [
        (f"{work} forward+backward", TORCH, {each.variant: each.build for each in everything}, seconds),
        (f"OHEM {work} forward+backward", PORT, {each.variant: each.build for each in hard}, seconds / 4),
        (f"OHEM {work} choice of pixels", PORT, {each.variant: each.build_mining for each in hard}, seconds / 4),
    ]
    found: list[Step] = []
    for count in (1,) if quick or device == "cuda" else (1, 2):
        for name, baseline, builders, limit in groups:
            case = name if device == "cuda" else f"{name}, {count} thread{'s' if count > 1 else ''}"
            found.append((case, functools.partial(time_rows, case, baseline, builders, device, count, limit)))
    for works in (everything,) if quick else (everything, hard):
        case = f"OHEM {work} forward+backward" if works is hard else f"{work} forward+backward"
        found.append((f"memory of {case}", functools.partial(memory_rows, case, works)))
    return found


def time_rows(
    case: str, baseline: str, builders: Mapping[str, Callable[[], Call]], device: str, count: int, seconds: float
) -> Iterator[Row]:
    """Processor time of all variants."""
    with threads(count):
        calls = {name: build() for name, build in builders.items()}
        rounds, calls_each = (3 if seconds else 2), (20 if device == "cuda" else 1)
        samples = interleaved(calls, seconds, device=device, calls=calls_each, min_rounds=rounds)
    yield from compare(NAME, case, "time", {name: summary(each.time) for name, each in samples.items()}, baseline)


def memory_rows(case: str, works: Sequence[Work]) -> Iterator[Row]:
    """Peak memory of all variants against the first."""
    if can_measure_peak(works[0].device):
        peaks = {each.variant: Measured(peak_memory(each.build, each.build_tiny, each.device)) for each in works}
        yield from compare(NAME, case, "memory", peaks, works[0].variant)
