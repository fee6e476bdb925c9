"""What a run tells while it trains: a live line, metrics.jsonl and TensorBoard."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccnet import distributed
from ccnet.errors import CheckpointError
from ccnet.training.board import Board
from ccnet.training.progress import Batch, LiveLine, Pace, peak_memory
from ccnet.training.rows import RowFile
from ccnet.training.trainer import StepResult


class RunLog:
    """Called after every step. Use as a context manager; silent and fileless on ranks other than the first.

    Its state is part of a checkpoint, so that the losses in the files of an interrupted run are those of a run without
    interruption, to the bit.

    Args:
        folder: the run's folder.
        max_steps: the last step.
        start_step: where this process begins; what the files hold beyond it is dropped, because it comes again.
        log_every: steps between rows; losses are means over the steps between that were not skipped.
        evaluate_every: steps between evaluations, for the time that is left.
        device: where losses are.
    """

    def __init__(
        self,
        folder: Path,
        max_steps: int,
        start_step: int,
        log_every: int,
        *,
        evaluate_every: int,
        device: torch.device,
    ) -> None:
        self.max_steps, self.log_every, self.device = max_steps, log_every, device
        self.start_step = self.last_step = start_step
        self.sums: dict[str, Tensor] = {}
        self.bad_steps = 0
        self.pace = Pace(start_step, max_steps, evaluate_every)
        self.active = distributed.is_main()
        if self.active:
            self.rows = RowFile(folder / "metrics.jsonl")
            at_start = self.rows.begin_after(start_step)
            # A row of losses has a learning rate. The evaluation of the first step may have been cut short, or be
            # written and come again: TensorBoard forgets what it has of it, or it is not written twice.
            training = [row for row in at_start if "lr" in row]
            self.is_start_scored = len(training) < len(at_start)
            self.board = Board(folder / "tensorboard", start_step + self.is_start_scored)
            for row in training if not self.is_start_scored else []:
                self.board.scalars(start_step, "train", {name: row[name] for name in row.keys() - {"step"}})
            self.live = LiveLine(start_step, max_steps)

    def __enter__(self) -> Self:
        if self.active:
            self.live.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.active:
            self.live.progress.stop()
            self.board.close()

    def __call__(self, result: StepResult) -> None:
        """Takes note of a step."""
        if result.skipped:
            self.bad_steps += 1
        else:
            total = torch.stack(list(result.losses.values())).sum()
            for name, value in {**result.losses, "loss": total, "grad_norm": result.grad_norm}.items():
                self.sums[name] = self.sums.get(name, 0) + value.float()
        self.pace.images += result.batch_size
        if self.active:
            self.live.step(result.step)
        if result.step % self.log_every == 0 or result.step == self.max_steps:
            self._report(result)
        self.pace.end_step()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The training batches; waiting for them is measured."""
        return self.pace.timed(batches)

    def evaluating(self, batches: Iterable[Batch], total: int) -> Iterable[Batch]:
        """The batches of an evaluation, of which there are `total`; the live line shows how far it is."""
        return self.live.evaluating(batches, total) if self.active else batches

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Records an evaluation, whose time, since the step, does not count against images per second."""
        self.pace.end_evaluation()
        if self.active:
            if not self._is_written(step):
                self._write(step, "val", {"val/loss" if name == "loss" else name: scores[name] for name in scores})
            means = "  ".join(f"{name} {value:.4g}" for name, value in scores.items() if "/" not in name)
            self.say(f"step {step}: {means}")

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Shows an image (H, W, 3) of an evaluation in TensorBoard; called before the scores of the same step."""
        if self.active and not self._is_written(step):
            self.board.picture(step, name, image)

    def text(self, name: str, text: str) -> None:
        """Shows a text in TensorBoard, as it is; a continued run has it already."""
        if self.active and not self.start_step:
            self.board.text(name, text)

    def hparams(self, values: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """A line in TensorBoard's table of runs; a continued run has it already.

        Args:
            values: settings by name.
            metrics: tags of scalars to show beside them, such as val/mIoU.
        """
        if self.active and not self.start_step:
            self.board.hparams(values, metrics)

    def say(self, line: str) -> None:
        """Prints a line above the live one."""
        if self.active:
            self.live.say(line)

    def flush(self) -> None:
        """Returns when what was told is safe."""
        if self.active:
            self.board.flush()
            self.rows.flush()

    def state_dict(self) -> dict[str, Any]:
        """What the next row needs to know of the steps since the last one, as plain values; called on all ranks.

        The rows before are on the disk when it returns. A float32 survives as a float exactly; sums that are not finite
        become null.
        """
        self.flush()
        sums = []
        if self.sums:
            joined = distributed.joined_over_ranks(torch.stack(list(self.sums.values())))
            sums = joined.view(-1, len(self.sums)).tolist()
        return {
            "last_step": self.last_step,
            "bad_steps": self.bad_steps,
            "names": list(self.sums),
            "sums": [[value if math.isfinite(value) else None for value in rank] for rank in sums],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` returned, before the first step. On another number of ranks the first one gets
        everything: the means are the same, but for rounding.

        Raises:
            CheckpointError: naming the key whose value is not what it has to be.
        """
        last_step, bad_steps = state.get("last_step"), state.get("bad_steps")
        if type(last_step) is not int or not 0 <= last_step <= self.start_step:
            raise _damaged("last_step", f"a step up to {self.start_step}")
        if type(bad_steps) is not int or not 0 <= bad_steps <= self.start_step - last_step:
            raise _damaged("bad_steps", f"a number of steps up to {self.start_step - last_step}")
        names = _names(state.get("names"))
        ranks = _sums(state.get("sums"), len(names))
        self.last_step, self.bad_steps = last_step, bad_steps
        self.sums = dict(zip(names, _share_of_rank(ranks).to(self.device), strict=True)) if names else {}

    def _is_written(self, step: int) -> bool:
        return step == self.start_step and self.is_start_scored

    def _report(self, result: StepResult) -> None:
        row: dict[str, float] = {}
        if self.sums:
            # Every rank's terms are its share of the global mean times the number of ranks.
            sums = distributed.sum_over_ranks(torch.stack(list(self.sums.values()))) / distributed.world_size()
            means = sums / (result.step - self.last_step - self.bad_steps)
            row = dict(zip(self.sums, means.tolist(), strict=True))
        row |= {"lr": result.learning_rate, **self.pace.end_interval()}
        if (memory := peak_memory(self.device)) is not None:
            row["memory_gib"] = memory
        if self.bad_steps:
            row["bad_steps"] = self.bad_steps
        if self.active:
            self._write(result.step, "train", row)
            self.live.status(result.step, f"{_figures(row, self.sums)}  ETA {self.pace.time_left(result.step)}")
        self.sums, self.bad_steps, self.last_step = {}, 0, result.step

    def _write(self, step: int, section: str, row: Mapping[str, float]) -> None:
        """The row comes last: where it stands, TensorBoard has the same and the pictures before it."""
        self.board.scalars(step, section, row)
        self.board.flush()
        self.rows.append(step, row)


def _figures(row: Mapping[str, float], means: Collection[str]) -> str:
    """A row as a person reads it; `means` are its losses, their sum and the norm of the gradient."""
    parts = []
    if "loss" in means:
        shares = ", ".join(f"{name} {row[name]:.3f}" for name in means if name not in ("loss", "grad_norm"))
        parts += [f"loss {row['loss']:.3f} ({shares})", f"grad {row['grad_norm']:.2f}"]
    parts += [f"lr {row['lr']:.2e}", f"{row['images_per_second']:.1f} images/s", f"data {row['data_wait']:.0%}"]
    parts += [f"{row['memory_gib']:.1f} GiB"] if "memory_gib" in row else []
    parts += [f"{row['bad_steps']:.0f} bad"] if "bad_steps" in row else []
    return "  ".join(parts)


def _names(names: Any) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise _damaged("names", "a list of different names")
    return names


def _sums(ranks: Any, length: int) -> Tensor:
    whole = isinstance(ranks, list) and bool(ranks) == bool(length)
    if not whole or not all(
        isinstance(rank, list) and len(rank) == length and all(x is None or type(x) is float for x in rank)
        for rank in ranks
    ):
        raise _damaged("sums", f"{length} numbers of each rank")
    values = [[math.nan if value is None else value for value in rank] for rank in ranks]
    return torch.tensor(values, dtype=torch.float32)


def _share_of_rank(sums: Tensor) -> Tensor:
    rank, world_size = distributed.rank(), distributed.world_size()
    if len(sums) == world_size:
        return sums[rank]
    return sums.sum(dim=0) * (world_size / len(sums) if rank == 0 else 0.0)


def _damaged(key: str, wanted: str) -> CheckpointError:
    return CheckpointError(f"the log's {key} in the checkpoint must be {wanted}; it is damaged")
