"""A weighted sum of named loss terms on the outputs of a segmentor."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

# What the auxiliary term and the training log call their own, and what the container of the terms cannot hold.
RESERVED = {"auxiliary", "loss", "grad_norm", "lr", "images_per_second", "step", *dir(nn.ModuleDict)}


class Outputs(Protocol):
    """What a segmentor returns while training."""

    logits: Tensor
    auxiliary: Tensor | None
    features: Tensor | None


class WeightedLoss(nn.Module):
    """Terms on the main logits or features, and one on the auxiliary logits.

    Logits are brought to the mask's size once, in float32, for all terms that want them.

    Args:
        terms: name -> loss of (logits, mask), or of (features, mask) where the loss says `on_features`. The log and
            TensorBoard show each by its name.
        weights: name -> weight, for each term.
        auxiliary: loss of the auxiliary logits.
        auxiliary_weight: its weight; 0 trains without an auxiliary head.
        align_corners: how logits are upsampled; the model's.

    Raises:
        ValueError: no terms, a term without weight or a weight without term, a negative weight, a name that is no
            plain word or that the log needs for something else, or an auxiliary loss of features.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        auxiliary: nn.Module,
        auxiliary_weight: float = 0.4,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if terms.keys() != weights.keys():
            raise ValueError(f"loss terms {sorted(terms)} need exactly these weights, got {sorted(weights)}")
        if not terms:
            raise ValueError("a loss needs at least one term")
        if wrong := [name for name in terms if name in RESERVED or not name.isidentifier()]:
            raise ValueError(f"a loss term cannot be named {wrong[0]}; take another plain word")
        if getattr(auxiliary, "on_features", False):
            raise ValueError(
                f"the auxiliary loss is given logits; {type(auxiliary).__name__} wants the head's features"
            )
        for name, weight in {**weights, "auxiliary": auxiliary_weight}.items():
            if not weight >= 0:
                raise ValueError(f"the weight of the loss term {name} must be >= 0, got {weight}")
        self.terms = nn.ModuleDict(terms)
        self.weights = dict(weights)
        self.auxiliary = auxiliary
        self.auxiliary_weight = auxiliary_weight
        self.align_corners = align_corners

    def forward(self, outputs: Outputs, mask_BHW: Tensor) -> dict[str, Tensor]:
        """Outputs and the mask (B, H, W) int64, 255 = ignored -> weighted scalar terms; their sum is the loss."""
        logits = self._at_mask_size(outputs.logits, mask_BHW)
        losses = {}
        for name, term in self.terms.items():
            seen = self._features(outputs) if getattr(term, "on_features", False) else logits
            losses[name] = self.weights[name] * term(seen, mask_BHW)
        if self.auxiliary_weight and outputs.auxiliary is not None:
            auxiliary = self._at_mask_size(outputs.auxiliary, mask_BHW)
            losses["auxiliary"] = self.auxiliary_weight * self.auxiliary(auxiliary, mask_BHW)
        return losses

    @property
    def uses_features(self) -> bool:
        """Whether some term wants the head's features."""
        return any(getattr(term, "on_features", False) for term in self.terms.values())

    @property
    def uses_class_pixels(self) -> bool:
        """Whether some class weights are to be made from the training set's pixels."""
        return bool(self._losses_by_class_pixels())

    def set_class_pixels(self, pixels: Sequence[int]) -> None:
        """Tells the losses that want it how many pixels each class has in the training set."""
        for loss in self._losses_by_class_pixels():
            loss.set_class_pixels(pixels)

    def _losses_by_class_pixels(self) -> list[Any]:
        return [loss for loss in self.modules() if getattr(loss, "weight_rule", None)]

    def _at_mask_size(self, logits: Tensor, mask: Tensor) -> Tensor:
        return F.interpolate(logits.float(), mask.shape[-2:], mode="bilinear", align_corners=self.align_corners)

    def _features(self, outputs: Outputs) -> Tensor:
        if outputs.features is None:
            raise ValueError("a loss term needs the head's features; the model returned none")
        return outputs.features.float()
