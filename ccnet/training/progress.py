"""How fast a run goes, how long it will take, and the line that shows it."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

GIB = 2**30
Batch = TypeVar("Batch")


class Pace:
    """Where the time of a run goes: steps, of which some is waiting for data, and evaluations.

    Args:
        start_step: where this process begins.
        max_steps: the last step.
        evaluate_every: steps between evaluations; there is one after the last step, too.
    """

    def __init__(self, start_step: int, max_steps: int, evaluate_every: int) -> None:
        self.start_step, self.max_steps, self.evaluate_every = start_step, max_steps, evaluate_every
        self.evaluations, self.evaluation_seconds = 0, 0.0
        self.images, self.waited = 0, 0.0
        # The first two are put forward by the time of every evaluation, so that only steps are between them and now.
        self.began = self.interval_began = self.step_ended = time.perf_counter()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time until each arrives counts as waiting."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield batch

    def end_step(self) -> None:
        """What follows may be an evaluation."""
        self.step_ended = time.perf_counter()

    def end_evaluation(self) -> None:
        """The time since the step does not count as training."""
        seconds = time.perf_counter() - self.step_ended
        self.evaluations, self.evaluation_seconds = self.evaluations + 1, self.evaluation_seconds + seconds
        self.began, self.interval_began = self.began + seconds, self.interval_began + seconds
        self.end_step()

    def end_interval(self) -> dict[str, float]:
        """Images per second and the share of waiting in 0..1, since the last call."""
        now = time.perf_counter()
        seconds = now - self.interval_began
        rates = {"images_per_second": self.images / seconds, "data_wait": self.waited / seconds}
        self.interval_began, self.images, self.waited = now, 0, 0.0
        return rates

    def time_left(self, step: int) -> str:
        """After a step and before its evaluation: hours:minutes:seconds of all steps and evaluations to come.

        Begins with > where evaluations are to come and none was measured: it takes longer by these.
        """
        seconds = (time.perf_counter() - self.began) / (step - self.start_step) * (self.max_steps - step)
        evaluations = self.evaluations_left(step)
        if self.evaluations:
            seconds += self.evaluation_seconds / self.evaluations * evaluations
        return (">" if evaluations and not self.evaluations else "") + _clock(seconds)

    def evaluations_left(self, step: int) -> int:
        """From a step on, its own among them."""
        at_intervals = self.max_steps // self.evaluate_every - (step - 1) // self.evaluate_every
        return at_intervals + (self.max_steps % self.evaluate_every > 0)


class LiveLine:
    """A bar with the newest figures on a terminal, plain lines elsewhere; on stderr."""

    def __init__(self, start_step: int, max_steps: int) -> None:
        self.max_steps = max_steps
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[status]}", table_column=Column(no_wrap=False)),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.training = self.progress.add_task("training", total=max_steps, completed=start_step, status="")

    def step(self, step: int) -> None:
        """Moves the bar."""
        self.progress.update(self.training, completed=step)

    def status(self, step: int, status: str) -> None:
        """Figures of the steps up to this one."""
        self.progress.update(self.training, status=status)
        if not self.console.is_terminal:
            self.say(f"step {step}/{self.max_steps}  {status}")

    def say(self, line: str) -> None:
        """Prints a line, above the bar."""
        self.console.print(line, soft_wrap=True)

    def evaluating(self, batches: Iterable[Batch], total: int) -> Iterator[Batch]:
        """Batches of an evaluation, with a bar of their own as long as it lasts."""
        task = self.progress.add_task("evaluating", total=total, status="")
        try:
            for batch in batches:
                yield batch
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)


def peak_memory(device: torch.device) -> float | None:
    """GiB: on CUDA what tensors took at most, elsewhere this process's largest resident set, where the system tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    if sys.platform == "win32":
        return None
    import resource  # which Windows has not

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / GIB if sys.platform == "darwin" else peak * 1024 / GIB  # bytes there, KiB elsewhere


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
