"""What the loop costs over one that a person would write for the occasion, what its switches give, and a checkpoint."""

import functools
import io
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from ccnet import build, build_training, checkpoint, run
from ccnet.allocator import keep_freed_memory
from ccnet.benchmarks import measure
from ccnet.benchmarks.measure import Measured, Row, Step, compare, interleaved, summary
from ccnet.benchmarks.memory import Call
from ccnet.config import compose_config
from ccnet.models.segmentor import Segmentor
from ccnet.schema import Precision, RunConfig
from ccnet.training.log import RunLog
from ccnet.training.milestones import Milestones
from ccnet.training.signals import StopSignals
from ccnet.training.trainer import Trainer

NAME = "training"
CLASSES = 19  # of the default run's scenes
STEPS = 4  # of a call
NEVER = 10**9
BARE, PLAIN = "bare PyTorch", "fp32, NCHW"
SWITCHES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "channels-last": {"channels_last": True},
    "bf16": {"precision": Precision.bf16},
    "bf16, channels-last": {"precision": Precision.bf16, "channels_last": True},
    "compile": {"compile": True},
}
COMPILERS = ("g++", "c++", "clang++", "cl")


@dataclass(frozen=True)
class Run:
    """A run in memory: its model, its loop, and batches that are there already."""

    model: Segmentor
    trainer: Trainer
    batches: list[dict[str, Any]]


def rows(quick: bool) -> Iterator[Row]:
    """Training: our step against a bare PyTorch loop, images/s with each switch, and what a checkpoint costs."""
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    keep_freed_memory(torch.device("cpu"))  # as a run does
    yield from measure.run([step for device in devices for step in steps(device, quick)])


def steps(device: str, quick: bool) -> list[Step]:
    """All cases of a device, on the default run."""
    config, seconds = compose_config(), 0.0 if quick else 120.0
    size = "x".join(map(str, [config.trainer.batch_size, 3, *config.augmentation["crop_size"]]))
    case = f"{config.name}, {size}{' CUDA' if device == 'cuda' else ''}"
    switches = {name: switch for name, switch in SWITCHES.items() if not (quick and "compile" in switch)}
    if "compile" in switches and not (device == "cuda" or any(map(shutil.which, COMPILERS))):
        print("no row of torch.compile: it needs a C++ compiler, and there is none", file=sys.stderr)
        del switches["compile"]
    return [
        (f"a step of {case}", functools.partial(tax_rows, f"a step of {case}", config, device, seconds)),
        (
            f"an image of {case}",
            functools.partial(switch_rows, f"an image of {case}", config, device, seconds, switches),
        ),
        (f"saves of {case}", functools.partial(save_rows, f"saves of {case}", config, device)),
    ]


def tax_rows(case: str, config: RunConfig, device: str, seconds: float) -> Iterator[Row]:
    """A step of ours, with everything that watches it in a run, against a bare one."""
    with watched_loop(config, device) as ours:
        samples = interleaved({"ccnet": ours, BARE: bare_loop(config, device)}, seconds, device=device)
    yield from compare(NAME, case, "time", per(STEPS, {name: each.time for name, each in samples.items()}), BARE)
    if device == "cpu":
        yield from compare(NAME, case, "wall", per(STEPS, {name: each.wall for name, each in samples.items()}), BARE)


def switch_rows(
    case: str, config: RunConfig, device: str, seconds: float, switches: Mapping[str, Mapping[str, Any]]
) -> Iterator[Row]:
    """Time of an image in training, with switches and without; stderr says how many a second that is."""
    off = replace(config.trainer, channels_last=False, precision=Precision.fp32, compile=False)
    calls: dict[str, Call] = {}
    for name, switch in switches.items():
        made = build_run(replace(config, trainer=replace(off, **switch)), device)
        calls[name] = functools.partial(made.trainer.fit, made.batches)
    samples = interleaved(calls, seconds, device=device)
    for name, each in samples.items():
        rate = STEPS * config.trainer.batch_size / summary(each.wall).value
        print(f"  {name:<20}{rate:8.1f} images/s", file=sys.stderr)
    times = {name: each.time for name, each in samples.items()}
    yield from compare(NAME, case, "time", per(STEPS * config.trainer.batch_size, times), PLAIN)


def save_rows(case: str, config: RunConfig, device: str) -> Iterator[Row]:
    """A checkpoint on the disk of the current folder, rotation included, against the training between two of them."""
    made, every = build_run(config, device), config.trainer.save_every
    train = functools.partial(made.trainer.fit, made.batches)
    train()  # so that the optimizer has its state

    with TemporaryDirectory(dir=Path.cwd()) as folder:

        def save() -> None:
            meta = {**run.about(config, [], []), "step": made.trainer.step, "score": None}
            saved = checkpoint.save(Path(folder), made.model, made.trainer.optimizer, meta)
            checkpoint.rotate(Path(folder), config.trainer.keep, saved)
            made.trainer.step += 1

        samples = interleaved({"a save": save, "steps": train}, 0, device=device)
    between = summary([second * every / STEPS for second in samples["steps"].wall])
    saves, baseline = summary(samples["a save"].wall), f"{every} steps"
    print(f"  a save takes {saves.value / between.value:.2%} of the time between two", file=sys.stderr)
    yield from compare(NAME, case, "wall", {"a save": saves, baseline: between}, baseline)


def build_run(config: RunConfig, device: str) -> Run:
    """The loop as a session builds it, and as many batches as a call takes."""
    torch.manual_seed(config.seed)
    model = build.build_model(config, CLASSES, pretrained=False).to(device)
    trainer = build_training.build_trainer(config, model, torch.device(device))
    return Run(model, trainer, [made_batch(config) for _ in range(STEPS)])


def made_batch(config: RunConfig) -> dict[str, Any]:
    """Noise, laid out as the loader lays it."""
    size = (config.trainer.batch_size, *config.augmentation["crop_size"])
    image = torch.randint(0, 256, (*size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return {"image": image, "mask": torch.randint(0, CLASSES, size, dtype=torch.uint8), "name": ["noise"] * size[0]}


@contextmanager
def watched_loop(config: RunConfig, device: str) -> Iterator[Call]:
    """A call of our loop with everything that a session adds to it, and nothing that belongs to single steps."""
    limits = replace(config.trainer, max_steps=NEVER, evaluate_every=NEVER, save_every=NEVER)
    made = build_run(config, device)
    with TemporaryDirectory() as name, redirect_stderr(io.StringIO()):
        folder = Path(name)
        with (
            RunLog(folder, NEVER, 0, limits.log_every, evaluate_every=NEVER, device=made.trainer.device) as log,
            StopSignals() as signals,
        ):
            milestones = Milestones(
                folder, made.trainer, made.model, None, _no_evaluation, {}, {}, _no_evaluation, limits, signals
            )
            yield lambda: made.trainer.fit(log.timed(made.batches), after_step=[log, milestones])


def _no_evaluation(*_: object) -> None:
    """Scores belong to single steps."""


def bare_loop(config: RunConfig, device: str) -> Call:
    """The same training as one writes it down without a framework."""
    torch.manual_seed(config.seed)
    model = build.build_model(config, CLASSES, pretrained=False).to(device)
    layout = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    criterion = build.build_loss(config).to(device)
    optimizer = build_training.build_optimizer(config, model)
    schedule = build.build_part(config.schedule, max_steps=config.trainer.max_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    batches = [made_batch(config) for _ in range(STEPS)]
    losses: list[float] = []

    def train() -> None:
        model.train()
        for batch in batches:
            image = batch["image"].to(device, memory_format=layout, non_blocking=True)
            mask = batch["mask"].to(device, non_blocking=True).long()
            with torch.autocast(device, torch.bfloat16, enabled=config.trainer.precision == Precision.bf16):
                outputs = model(image)
            loss = torch.stack(list(criterion(outputs, mask).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            if config.trainer.clip_grad_norm:
                nn.utils.clip_grad_norm_(model.parameters(), config.trainer.clip_grad_norm)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())

    return train


def per(count: int, seconds: Mapping[str, Sequence[float]]) -> dict[str, Measured]:
    """The time of one of so many that a call takes."""
    return {name: summary([second / count for second in each]) for name, each in seconds.items()}
