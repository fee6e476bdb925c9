"""The backends of criss-cross attention against other people's modules and non-local attention."""

import functools
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ccnet.benchmarks.attention_variants import COMPILED, MMCV_NCHW, Shape, has_mmcv, make_module, matrix_products
from ccnet.benchmarks.measure import Measured, Row, Step, compare, interleaved, once, run, summary, threads
from ccnet.benchmarks.memory import can_measure_peak, peak_memory, saved_bytes
from ccnet.benchmarks.operations import operation_counter

NAME = "attention"
SHAPES: list[Shape] = [(2, 512, 97, 97), (1, 512, 128, 256), (4, 256, 32, 32), (8, 64, 48, 48)]
LOOPS = 2
RCCA_SHAPE: Shape = (1, 512, 97, 97)

OURS = ["auto", "reference", "fused"]  # and, where they are at home, "chunked" and "triton"
FLOOR = "matrix products"
ROLES = {
    "textbook": "peer",
    MMCV_NCHW: "peer",
    "non-local": "peer",
    "non-local sdpa": "peer",
    FLOOR: "floor",
    "sparse": "known to lose",
    COMPILED: "known to lose",
}
NON_LOCALS = ("non-local textbook", "non-local", "non-local sdpa")
LARGEST_MAP = 2**30  # bytes of a non-local attention map; above, the sdpa form takes over, which keeps none


@dataclass(frozen=True)
class Work:
    """A call to be measured. It can be pickled, so that a child process can build it too.

    Attributes:
        variant: a name that `make_module` knows, or `FLOOR`.
        shape: of the input (B, C, H, W): float32 on the CPU, bfloat16 under autocast on CUDA; channels-last, also for
            mmcv, which is faster so on some processors and no slower on others (`MMCV_NCHW` shows by how much).
        backward: whether gradients of input and parameters are computed; otherwise autograd is off.
        device: "cpu" or "cuda".
        loops: how often the module is applied, with shared weights.
    """

    variant: str
    shape: Shape
    backward: bool = False
    device: str = "cpu"
    loops: int = 1

    def __str__(self) -> str:
        """The part of a case's name that this work gives."""
        recurrence = f"RCCA R={self.loops}, " if self.loops > 1 else ""
        device = " CUDA bf16" if self.device == "cuda" else ""
        direction = "forward+backward" if self.backward else "forward"
        return f"{recurrence}{'x'.join(map(str, self.shape))}{device} {direction}"

    @property
    def dtype(self) -> torch.dtype:
        """Of the input."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    def build(self) -> Callable[[], object]:
        """The call itself, with inputs and parameters built."""
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        if self.variant == FLOOR:
            return matrix_products(self.shape, self.backward, self.device, self.dtype)
        forward, leaves = self.build_forward()
        if not self.backward:
            return torch.no_grad()(forward)
        direction = torch.randn_like(leaves[0])
        return lambda: torch.autograd.grad(forward(), leaves, direction)

    def build_forward(self) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """The forward pass, and what it may be differentiated for: the input, then the parameters."""
        torch.manual_seed(0)
        layout = torch.contiguous_format if self.variant == MMCV_NCHW else torch.channels_last
        x_BCHW = torch.randn(self.shape, device=self.device).to(self.dtype, memory_format=layout)
        module = make_module(self.variant, self.shape[1]).to(self.device)

        def forward() -> Tensor:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                y_BCHW = x_BCHW
                for _ in range(self.loops):
                    y_BCHW = module(y_BCHW)
                return y_BCHW

        return forward, [x_BCHW.requires_grad_(), *module.parameters()]

    def build_tiny(self) -> Callable[[], object]:
        """The call at a size that only wakes the libraries."""
        return replace(self, shape=(1, self.shape[1], 8, 8)).build()


def rows(quick: bool) -> Iterator[Row]:
    """Criss-cross attention: every backend, mmcv's and the textbook's module, non-local; time and memory."""
    if not has_mmcv():
        print('mmcv is not installed, so the textbook is the peer; pip install -e ".[benchmark]"', file=sys.stderr)
    if not can_measure_peak():
        print("no peak memory of the CPU: it is measured under Linux with glibc only", file=sys.stderr)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    steps = [step for device in devices for step in (quick_steps(device) if quick else full_steps(device))]
    yield from run(steps)


def full_steps(device: str) -> list[Step]:
    """Every shape, direction and number of threads, and recurrent attention."""
    steps: list[Step] = []
    for shape in SHAPES:
        for backward in (False, True):
            work = Work("auto", shape, backward, device)
            steps += [time_step(work, count, seconds=20) for count in thread_counts(device)]
            steps.append((f"memory of {work}", functools.partial(memory_rows, work)))
    return [*steps, (f"RCCA R={LOOPS} against non-local", functools.partial(recurrence_rows, device))]


def quick_steps(device: str) -> list[Step]:
    """The small shapes, and of the first only the forward pass at one thread."""
    steps: list[Step] = []
    for shape in SHAPES[2:]:
        for backward in (False, True):
            work = Work("auto", shape, backward, device)
            steps += [time_step(work, count, seconds=1, quick=True) for count in thread_counts(device)]
    large = Work("auto", SHAPES[0], device=device)
    steps.append(time_step(large, 1, seconds=1, quick=True))
    memory = [large, Work("auto", SHAPES[2], True, device)]
    return [*steps, *((f"memory of {work}", functools.partial(memory_rows, work, quick=True)) for work in memory)]


def thread_counts(device: str) -> tuple[int, ...]:
    """On CUDA the processor's threads play no part."""
    return (1,) if device == "cuda" else (1, 2)


def time_step(work: Work, count: int, seconds: float, quick: bool = False) -> Step:
    """The step of `time_rows`."""
    case = str(work) if work.device == "cuda" else f"{work}, {count} thread{'s' if count > 1 else ''}"
    return case, functools.partial(time_rows, case, work, count, seconds, quick)


def time_rows(case: str, work: Work, count: int, seconds: float, quick: bool) -> Iterator[Row]:
    """Time of all variants: processor time (`time`), and of ours wall time too; `auto` against others again."""
    names, slowly = [*comparable(work), FLOOR], [] if quick else slow(work)
    if work.device == "cuda":  # nothing is slow there, and a first call is no measure
        names, slowly = names + slowly, []
    if work.shape == SHAPES[0] and work.device == "cpu" and count == 1 and not quick and shutil.which("g++"):
        names.append(COMPILED)
    calls = {name: replace(work, variant=name).build() for name in names}
    with threads(count):
        samples = interleaved(calls, seconds, device=work.device, calls=20 if work.device == "cuda" else 1)
        for name in slowly:
            samples[name] = once(replace(work, variant=name).build(), work.device)
    baseline = peer()
    time = {name: summary(each.time) for name, each in samples.items()}
    yield from compare(NAME, case, "time", time, baseline, ROLES)
    if work.device == "cpu":
        wall = {name: summary(each.wall) for name, each in samples.items() if name == baseline or name not in ROLES}
        yield from compare(NAME, case, "wall", wall, baseline)
    for other in ("textbook", MMCV_NCHW):
        if other in time and other != baseline:
            pair = {name: time[name] for name in ("auto", other)}
            yield from compare(NAME, f"{case}, {other}", "time", pair, other)


def memory_rows(work: Work, quick: bool = False) -> Iterator[Row]:
    """Peak memory of all variants, and what they save for backward."""
    works = [replace(work, variant=name) for name in [*comparable(work), *([] if quick else slow(work))]]
    if can_measure_peak(work.device):
        peaks = {each.variant: peak(each) for each in works}
        yield from compare(NAME, str(work), "memory", peaks, peer(), ROLES)
    if work.backward:
        saved = {each.variant: Measured(saved_bytes(*each.build_forward())) for each in works}
        yield from compare(NAME, str(work), "saved", saved, peer(), ROLES)


def recurrence_rows(device: str) -> Iterator[Row]:
    """Recurrent attention against the published form of non-local attention: peak memory, and operations of forward.

    Operations are the same on every device, and counted on the CPU.
    """
    ours = [Work(name, RCCA_SHAPE, True, device, LOOPS) for name in OURS]
    everyone = [*ours, *(Work(name, RCCA_SHAPE, True, device) for name in NON_LOCALS)]
    if can_measure_peak(device):
        peaks = {work.variant: peak(work) for work in everyone}
        yield from compare(NAME, str(ours[0]), "memory", peaks, "non-local textbook", ROLES)
    if device == "cpu":
        forwards = [replace(work, backward=False) for work in everyone]
        operations = {work.variant: flops(work) for work in forwards}
        yield from compare(NAME, str(forwards[0]), "flops", operations, "non-local textbook", ROLES)


def comparable(work: Work) -> list[str]:
    """The variants that are fast enough to take turns: ours as far as they can do this work, and the peers."""
    names = [*OURS, "textbook"]
    if not work.backward:
        names.append("chunked")
    if work.device == "cuda":
        names.append("triton")
    return [*names, "mmcv", MMCV_NCHW] if has_mmcv() else names


def slow(work: Work) -> list[str]:
    """The variants of which one call has to do. Of the sdpa form of non-local a gradient would take minutes."""
    batch, _, height, width = work.shape
    if 4 * batch * (height * width) ** 2 <= LARGEST_MAP:
        return ["sparse", "non-local"]
    return ["sparse"] if work.backward else ["sparse", "non-local sdpa"]


def peer() -> str:
    """The baseline of the measured rows."""
    return "mmcv" if has_mmcv() else "textbook"


def peak(work: Work) -> Measured:
    """Bytes."""
    return Measured(peak_memory(work.build, work.build_tiny, work.device))


def flops(work: Work) -> Measured:
    """Operations that PyTorch counts in a call: two per multiply-add of products and convolutions (not of Triton's)."""
    call = work.build()
    with operation_counter() as counter:
        call()
    return Measured(counter.get_total_flops())
