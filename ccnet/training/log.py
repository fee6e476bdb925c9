"""What a run tells while it trains: a live line, metrics.jsonl and TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from ccnet import distributed
from ccnet.training.trainer import StepResult


class RunLog:
    """Called after every step. Use as a context manager; silent and fileless on ranks other than the first.

    Args:
        folder: the run's folder.
        max_steps: the last step.
        start_step: where this process begins; what the files hold beyond it is dropped, because it comes again.
        log_every: steps between rows; losses are means over them.
    """

    def __init__(self, folder: Path, max_steps: int, start_step: int, log_every: int) -> None:
        self.path = folder / "metrics.jsonl"
        self.max_steps, self.log_every, self.active = max_steps, log_every, distributed.is_main()
        self.start_step = self.last_step = start_step
        self.started = self.last_time = self.step_time = time.perf_counter()
        self.sums: dict[str, Tensor] = {}
        self.images = 0
        if self.active:
            _drop_rows_after(self.path, start_step)
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step + 1)
            self.console = Console(stderr=True, highlight=False, markup=False)
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed}/{task.total} {task.fields[status]}"),
                console=self.console,
                disable=not self.console.is_terminal,
            )
            self.task = self.progress.add_task("training", total=max_steps, completed=start_step, status="")

    def __enter__(self) -> Self:
        if self.active:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            self.progress.stop()
            self.board.close()

    def __call__(self, result: StepResult) -> None:
        """Takes note of a step."""
        terms = {
            **result.losses,
            "loss": torch.stack(list(result.losses.values())).sum(),
            "grad_norm": result.grad_norm,
        }
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.images += result.batch_size
        self.step_time = time.perf_counter()
        if self.active:
            self.progress.update(self.task, completed=result.step)
        if result.step % self.log_every == 0 or result.step == self.max_steps:
            self._report(result)

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Records an evaluation, whose time does not count against images per second."""
        self.last_time += time.perf_counter() - self.step_time
        if self.active:
            self._write(step, scores)
            self.say(
                f"step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in scores.items() if "/" not in name)
            )

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Shows an image (H, W, 3) in TensorBoard."""
        if self.active:
            self.board.add_image(name, image, step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """Shows a text in TensorBoard, as it is."""
        if self.active:
            self.board.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))

    def say(self, line: str) -> None:
        """Prints a line above the live one."""
        if self.active:
            self.console.print(line)

    def _report(self, result: StepResult) -> None:
        now = time.perf_counter()
        # Every rank's terms are its share of the global mean times the number of ranks.
        sums = distributed.sum_over_ranks(torch.stack(list(self.sums.values()))) / distributed.world_size()
        means = sums / (result.step - self.last_step)
        row = dict(zip(self.sums, means.tolist(), strict=True))
        row |= {"lr": result.learning_rate, "images_per_second": self.images / (now - self.last_time)}
        if self.active:
            self._show(result.step, row, self._remaining(result.step, now))
        self.sums, self.images = {}, 0
        self.last_step, self.last_time = result.step, now

    def _show(self, step: int, row: Mapping[str, float], seconds_left: float) -> None:
        self._write(step, row)
        status = (
            f"loss {row['loss']:.3f}  lr {row['lr']:.2e}  {row['images_per_second']:.1f} images/s  "
            f"ETA {_clock(seconds_left)}"
        )
        self.progress.update(self.task, status=status)
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.max_steps}  {status}")

    def _remaining(self, step: int, now: float) -> float:
        """Seconds to go, evaluations and saves included: they are part of the time spent so far."""
        return (now - self.started) / (step - self.start_step) * (self.max_steps - step)

    def _write(self, step: int, row: Mapping[str, float]) -> None:
        row = {name: value for name, value in row.items() if math.isfinite(value)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **row}) + "\n")
        for name, value in row.items():
            self.board.add_scalar(name if "/" in name else f"{_section(name)}/{name}", value, step)


def _section(name: str) -> str:
    return "val" if name in ("mIoU", "mAcc", "aAcc") else "train"


def _drop_rows_after(path: Path, step: int) -> None:
    if path.is_file():
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if 0 < _step_of(line) <= step]
        aside = path.with_suffix(".part")
        aside.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        aside.replace(path)


def _step_of(row: str) -> int:
    try:
        return int(json.loads(row)["step"])
    except ValueError:  # a line that a crash cut short
        return 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
