"""The training loop. It is handed objects and knows neither configuration nor data sets nor heads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccnet import distributed
from ccnet.errors import CheckpointError
from ccnet.training.finite import FiniteGuard
from ccnet.training.modes import training_mode

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
IGNORE_INDEX = 255


@dataclass
class StepResult:
    """What a step leaves for whoever watches: loss terms as detached scalars, on the device.

    `skipped`: something was not finite, and the weights are those before the step.
    """

    step: int
    losses: Mapping[str, Tensor]
    grad_norm: Tensor
    learning_rate: float
    batch_size: int
    skipped: bool = False


class Trainer:
    """Steps a model through batches.

    Args:
        model: called with images (B, 3, H, W).
        loss: (outputs, mask) -> named scalar terms; their sum is minimised.
        optimizer: its groups hold the base learning rates.
        schedule: step -> factor of the base learning rates.
        device: where batches go.
        guard: decides whether a step is taken.
        precision: fp32, bf16 or fp16: number format of the forward pass.
        accumulation: parts of a batch that go through the network one after the other, weighed by their valid pixels:
            for a mean over pixels the gradient is that of the whole batch. Batch norms in training mode see a part at
            a time, and OHEM chooses its pixels within a part.
        clip_grad_norm: largest norm of the gradient; None leaves it alone.
        channels_last: memory layout of the images.
        seed: what is random in a step depends on it and on the step alone.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Tensor], dict[str, Tensor]],
        optimizer: Optimizer,
        schedule: Callable[[int], float],
        device: torch.device,
        guard: FiniteGuard,
        precision: str = "fp32",
        accumulation: int = 1,
        clip_grad_norm: float | None = None,
        channels_last: bool = False,
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.device, self.guard, self.accumulation, self.seed = device, guard, accumulation, seed
        self.dtype = AUTOCAST[precision]
        self.max_norm = float("inf") if clip_grad_norm is None else clip_grad_norm
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.step = 0

    def fit(
        self,
        batches: Iterable[Mapping[str, Any]],
        before_step: Sequence[Callable[[int], None]] = (),
        after_step: Sequence[Callable[[StepResult], None]] = (),
    ) -> None:
        """One step a batch; `self.step` counts the finished ones.

        Args:
            batches: of this rank.
            before_step: called with the number of steps done.
            after_step: called with what the step left.

        Raises:
            NonFiniteLossError: too many steps in a row were not finite; the weights are those before them.
        """
        training_mode(self.model)
        self.guard.begin_after(self.step)
        for batch in batches:
            for prepare in before_step:
                prepare(self.step)
            # Dropout depends on (seed, step, rank) alone, so a resumed run needs no random state.
            torch.manual_seed(self._step_seed())
            rate = self._set_learning_rates()
            self.guard.remember()
            losses = self._forward_backward(batch)
            self.scaler.unscale_(self.optimizer)
            grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
            taken = self._update(losses, grad_norm, batch["name"])
            self.step += 1
            images = len(batch["name"]) * distributed.world_size()
            result = StepResult(self.step, losses, grad_norm.detach(), rate, images, skipped=not taken)
            for watch in after_step:
                watch(result)

    def state_dict(self) -> dict[str, Any]:
        """Plain values; the weights and the optimizer are kept apart."""
        return {"bad_in_a_row": self.guard.bad_in_a_row, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises:
        CheckpointError: it is not what `state_dict` returns.
        """
        try:
            bad, scaler, own = state["bad_in_a_row"], state["scaler"], self.scaler.state_dict()
            if type(bad) is not int or {k: type(v) for k, v in scaler.items()} != {k: type(v) for k, v in own.items()}:
                raise ValueError(f"{bad}, {scaler}")
            self.guard.bad_in_a_row = bad
            self.scaler.load_state_dict(scaler)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's state of the trainer is damaged ({error})") from error

    def _forward_backward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Leaves the batch's gradients on the parameters, and returns its detached terms."""
        self.optimizer.zero_grad(set_to_none=True)
        image = batch["image"].to(self.device, memory_format=self.memory_format, non_blocking=True)
        mask = batch["mask"].to(self.device, non_blocking=True).long()
        images, masks = image.chunk(self.accumulation), mask.chunk(self.accumulation)
        terms: dict[str, Tensor] = {}
        for index, (image, mask, share) in enumerate(zip(images, masks, _shares(masks), strict=True)):
            with nullcontext() if index == len(images) - 1 else distributed.without_sync(self.model):
                with self._autocast():
                    outputs = self.model(image)
                losses = {name: value * share for name, value in self.loss(outputs, mask).items()}
                self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            terms = {name: terms.get(name, 0) + value.detach() for name, value in losses.items()}
        return terms

    def _update(self, losses: Mapping[str, Tensor], grad_norm: Tensor, names: Sequence[str]) -> bool:
        """Whether the step was taken; not where something is not finite on some rank."""
        scale = self.scaler.get_scale()
        # Half precision lowers its scale until gradients fit; one that does not fit at 1 is bad.
        taken = self.guard.accepts(losses, grad_norm, scaled=self.scaler.is_enabled() and scale > 1)
        if taken:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.guard.reject(self.step + 1, losses, grad_norm, names)
            self.scaler.update(scale)
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            self.scaler.update(1.0)
        return taken

    def _step_seed(self) -> int:
        return int(np.random.SeedSequence([self.seed, self.step, distributed.rank()]).generate_state(1)[0])

    def _set_learning_rates(self) -> float:
        """Returns the largest of them."""
        factor = self.schedule(self.step)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def _shares(masks: Sequence[Tensor]) -> list[Tensor | float]:
    """Of each part in the valid pixels of the whole batch, over all ranks."""
    if len(masks) == 1:
        return [1.0]
    valid = distributed.sum_over_ranks(torch.stack([(mask != IGNORE_INDEX).sum() for mask in masks]))
    total = valid.sum()
    return list(torch.where(total > 0, valid / total, 1 / len(masks)))
