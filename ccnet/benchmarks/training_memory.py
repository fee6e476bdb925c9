"""Memory of a training step without the card that it needs: the real loop on tensors that have a size but no data."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ccnet import build, build_training
from ccnet.benchmarks.measure import Measured, Row, Step, compare, run
from ccnet.config import compose_config
from ccnet.schema import Precision, RunConfig
from ccnet.training.trainer import Trainer

NAME = "training_memory"
CLASSES = 19  # of Cityscapes and of the streets
QUICK = ("streets_mobilenetv3", "cityscapes_r2_ohem_8gb")
EXPERIMENTS = (*QUICK, "cityscapes_r2_ohem")
AS_IT_IS = "as it is"
SWITCHES: dict[str, dict[str, Any]] = {
    "fp32": {"precision": Precision.fp32},
    "bf16": {"precision": Precision.bf16},
    "accumulation=2": {"accumulation": 2},
    "accumulation=4": {"accumulation": 4},
    "checkpointing": {"activation_checkpointing": True},
    "no checkpointing": {"activation_checkpointing": False},
}


@dataclass(frozen=True)
class StepMemory:
    """Bytes: between two steps (weights, gradients, the optimizer's state, a batch), and at most within one."""

    held: int
    peak: int


class AllocatedBytes(TorchDispatchMode):
    """Counts the storages that operators make within, and those that are gone again.

    Attributes:
        now: bytes that are alive.
        peak: the most that were; may be set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


class AlwaysTaken:
    """In the place of `FiniteGuard`: what has no data cannot be looked at."""

    bad_in_a_row = 0

    def begin_after(self, step: int) -> None:
        """Nothing has been recorded."""

    def remember(self) -> None:
        """Nothing will be taken back."""

    def accepts(self, losses: Mapping[str, Tensor], grad_norm: Tensor, *, scaled: bool) -> bool:
        """Every step is good."""
        return True


def estimate(config: RunConfig) -> StepMemory:
    """What one process on one device needs for a step of a run; nothing is computed or read.

    The operators are those of the CPU: workspaces of convolutions, the CUDA context (about half a GiB) and what an
    allocator wastes come on top. fp16 is counted as bf16.
    """
    with FakeTensorMode(), AllocatedBytes() as allocated:
        trainer, batches = build_step(config)
        trainer.fit(batches)  # makes gradients and the optimizer's state
        held = allocated.peak = allocated.now
        trainer.fit(batches)
        return StepMemory(held, allocated.peak)


def build_step(config: RunConfig) -> tuple[Trainer, list[dict[str, Any]]]:
    """The loop of a run, not compiled and on the CPU, and one batch for it."""
    settings = config.trainer
    precision = Precision.bf16 if settings.precision == Precision.fp16 else settings.precision
    plain = replace(config, trainer=replace(settings, channels_last=False, compile=False, precision=precision))
    model = build.build_model(plain, CLASSES, pretrained=False)
    trainer = build_training.build_trainer(plain, model, torch.device("cpu"))
    if settings.channels_last:  # of the images alone: the layout of fake weights cannot be changed
        trainer.memory_format = torch.channels_last
    trainer.guard = AlwaysTaken()  # type: ignore[assignment]
    height, width = config.augmentation["crop_size"]
    image = torch.zeros(settings.batch_size, 3, height, width, dtype=torch.uint8)
    mask = torch.zeros(settings.batch_size, height, width, dtype=torch.uint8)
    return trainer, [{"image": image, "mask": mask, "name": [""] * settings.batch_size}]


def rows(quick: bool) -> Iterator[Row]:
    """Memory of a training step on one device, estimated: experiments, and what each switch makes of them."""
    yield from run([experiment_step(name) for name in (QUICK if quick else EXPERIMENTS)])


def experiment_step(name: str) -> Step:
    """The rows of an experiment, under its name."""
    config = compose_config([f"+experiment={name}"])
    size = "x".join(map(str, config.augmentation["crop_size"]))
    case = f"{name}, {config.trainer.batch_size} images of {size}"
    return case, lambda: switch_rows(case, config)


def switch_rows(case: str, config: RunConfig) -> Iterator[Row]:
    """An experiment as it is, and with one setting changed."""
    changed = {name: replace(config, trainer=replace(config.trainer, **switch)) for name, switch in SWITCHES.items()}
    others = {name: each for name, each in changed.items() if each != config}
    peaks = {name: Measured(estimate(each).peak) for name, each in {AS_IT_IS: config, **others}.items()}
    yield from compare(NAME, case, "memory (in all)", peaks, AS_IT_IS)
