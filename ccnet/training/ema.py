"""Exponential moving average of the weights."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from ccnet.training.trainer import StepResult


class WeightAverage:
    """Called after every step: average = decay * average + (1 - decay) * weights (Polyak and Juditsky, 1992).

    Early on the decay is only (1 + step) / (10 + step), so that the random weights of the beginning are soon forgotten.
    It depends on the step alone: the averaged tensors are all that has to be kept.

    Args:
        model: the bare model on its device, in the number format and memory layout that it keeps.
        decay: of a step, in 0..1; 0.999 is about the mean of the last thousand steps.

    Attributes:
        model: a copy in eval mode without gradients. Parameters and floating point buffers, such as running
            statistics, are averages in the number format of the model's own; counters are those of the last step.

    Raises:
        ValueError: a decay outside 0..1, or 1, which would learn nothing.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of a weight average must lie in 0..1, below 1, got {decay}")
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)
        # By identity, since a tensor that two names share must move once a step.
        pairs = dict(zip(_tensors(self.model), _tensors(model), strict=True)).items()
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages = [average for average, _ in averaged]
        self._weights = [weight for _, weight in averaged]
        self._copies = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def __call__(self, result: StepResult) -> None:
        """Takes in the weights that a step has left; nothing where it was left out itself."""
        if result.skipped:
            return
        decay = min(self.decay, (1 + result.step) / (10 + result.step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        for copy, own in self._copies:
            copy.copy_(own)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors, under the model's own names."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Fills the copy.

        Raises:
            RuntimeError: names or shapes that are not the model's.
        """
        self.model.load_state_dict(state)


def _tensors(model: nn.Module) -> list[Tensor]:
    """What a checkpoint keeps of a model: the tensors themselves, not detached."""
    return list(model.state_dict(keep_vars=True).values())
