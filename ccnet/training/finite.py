"""Numbers gone bad: found before they reach weights or norm statistics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ccnet import distributed
from ccnet.errors import UserError
from ccnet.training.rows import RowFile

logger = logging.getLogger("ccnet")


class NonFiniteLossError(UserError):
    """The loss or its gradient was NaN or infinite too many times in a row."""


class FiniteGuard:
    """Keeps what the forward pass changes, to take it back; counts and records the steps that were left out.

    Args:
        model: the bare model.
        max_in_a_row: so many bad steps end the run.
        record: a file that takes a JSON line for each bad step and rank; None writes nothing.
    """

    def __init__(self, model: nn.Module, max_in_a_row: int, record: Path | None = None) -> None:
        self.max_in_a_row = max_in_a_row
        self.record = None if record is None else RowFile(record)
        self.bad_in_a_row = 0
        # Batch norm has a mean, a variance and a counter a layer: all are copied in one call.
        self.buffers = list(model.buffers())
        self.kept = [buffer.clone() for buffer in self.buffers]

    def begin_after(self, step: int) -> None:
        """Before the first step: drops what the record holds beyond this step, because it comes again. The other ranks
        write nothing before `accepts`, which waits for the first one."""
        if self.record is not None and distributed.is_main():
            self.record.begin_after(step)

    def remember(self) -> None:
        """Before the forward pass."""
        if self.buffers:
            torch._foreach_copy_(self.kept, self.buffers)

    def accepts(self, losses: Mapping[str, Tensor], grad_norm: Tensor, *, scaled: bool) -> bool:
        """After the backward pass, on all ranks: whether every rank's loss and gradient are finite.

        Args:
            losses: of this rank.
            grad_norm: of the averaged gradient.
            scaled: whether the gradient was scaled up and may overflow: the scaler then sees to it.
        """
        finite = torch.isfinite(torch.stack(list(losses.values()))).all()
        if not scaled:
            finite = finite & torch.isfinite(grad_norm)
        good = not distributed.sum_over_ranks((~finite).float()).item()
        if good:
            self.bad_in_a_row = 0
        return good

    def reject(self, step: int, losses: Mapping[str, Tensor], grad_norm: Tensor, names: Sequence[str]) -> None:
        """Takes back what the forward pass changed, and tells.

        Raises:
            NonFiniteLossError: it was one too many in a row.
        """
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.kept)
        self.bad_in_a_row += 1
        values = {**losses, "gradient norm": grad_norm}
        terms = {name: value.item() for name, value in values.items()}
        told = ", ".join(f"{name} {value:g}" for name, value in terms.items())
        rank = distributed.rank()
        where = f"step {step}, rank {rank}" if distributed.world_size() > 1 else f"step {step}"
        logger.warning("%s left out: not finite (%s) on %s", where, told, ", ".join(names))
        if self.record is not None:
            self.record.append(
                step, {"rank": rank, "names": list(names), **{name: str(v) for name, v in terms.items()}}
            )
        if self.bad_in_a_row >= self.max_in_a_row:
            raise NonFiniteLossError(
                f"not finite {self.bad_in_a_row} times in a row, last at {where} ({told}) on the samples "
                f"{', '.join(names)}; lower optimizer.lr, set trainer.clip_grad_norm, or train in fp32 or bf16"
            )
