"""The training loop. It is handed objects and knows neither configuration nor data sets nor heads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccnet import distributed
from ccnet.errors import UserError

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLossError(UserError):
    """The loss or its gradient is NaN or infinite."""


@dataclass
class StepResult:
    """What a step leaves for whoever watches: loss terms as detached scalars, on the device."""

    step: int
    losses: Mapping[str, Tensor]
    grad_norm: Tensor
    learning_rate: float
    batch_size: int


class Trainer:
    """Steps a model through batches.

    Args:
        model: called with images (B, 3, H, W).
        loss: (outputs, mask) -> named scalar terms; their sum is minimised.
        optimizer: its groups hold the base learning rates.
        schedule: step -> factor of the base learning rates.
        device: where batches go.
        precision: fp32, bf16 or fp16: number format of the forward pass.
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
        precision: str = "fp32",
        clip_grad_norm: float | None = None,
        channels_last: bool = False,
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.device, self.seed = device, seed
        self.dtype = AUTOCAST[precision]
        self.max_norm = float("inf") if clip_grad_norm is None else clip_grad_norm
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.step = 0

    def fit(self, batches: Iterable[Mapping[str, Any]], after_step: Sequence[Callable[[StepResult], None]]) -> None:
        """One step a batch; `self.step` counts the finished ones.

        Raises:
            NonFiniteLossError: naming the samples; the weights are those before the step.
        """
        self.model.train()
        for batch in batches:
            # Dropout depends on (seed, step, rank) alone, so a resumed run needs no random state.
            torch.manual_seed(self._step_seed())
            factor = self._set_learning_rates()
            image = batch["image"].to(self.device, memory_format=self.memory_format, non_blocking=True)
            mask = batch["mask"].to(self.device, non_blocking=True).long()
            with self._autocast():
                outputs = self.model(image)
            losses = self.loss(outputs, mask)
            total = torch.stack(list(losses.values())).sum()
            self._require_finite(total, losses, batch["name"])
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(total).backward()
            self.scaler.unscale_(self.optimizer)
            grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
            if not self.scaler.is_enabled():  # the scaler looks after its own overflows
                self._require_finite(grad_norm, {"gradient norm": grad_norm}, batch["name"])
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.step += 1
            detached = {name: value.detach() for name, value in losses.items()}
            result = StepResult(self.step, detached, grad_norm.detach(), factor, len(image) * distributed.world_size())
            for watch in after_step:
                watch(result)

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

    def _require_finite(self, total: Tensor, losses: Mapping[str, Tensor], names: Sequence[str]) -> None:
        bad = distributed.sum_over_ranks((~torch.isfinite(total)).float())
        if bad > 0:
            terms = ", ".join(f"{name} {value.item():g}" for name, value in losses.items())
            raise NonFiniteLossError(
                f"not finite at step {self.step} ({terms}) on the samples {', '.join(names)}; "
                "lower optimizer.lr, set trainer.clip_grad_norm, or train in fp32 or bf16"
            )
