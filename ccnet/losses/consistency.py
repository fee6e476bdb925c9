"""The category-consistent loss of the journal version of CCNet."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import differentiable_sum_over_ranks, sum_over_ranks, world_size
from ccnet.errors import ConfigError
from ccnet.losses.class_weights import checked_weights
from ccnet.losses.cross_entropy import IGNORE_INDEX


class CategoryConsistency(nn.Module):
    """Features of one class gather around their mean, the means keep apart (CCNet, TPAMI version, Sec. 3.4).

    With class means mu over the valid pixels of all ranks' batch, h a pixel's feature, d = ||h - mu||,
    D = ||mu_a - mu_b||, C classes present:

        phi_var = d - delta_d + (delta_d - delta_v)^2  where d > delta_d;  (d - delta_v)^2  where d > delta_v;  else 0
        phi_dis = (2 delta_d - D)^2                    where D <= 2 delta_d;  else 0
        loss = alpha mean_c mean_i phi_var + beta mean_{a != b} phi_dis + gamma mean_c ||mu_c||

    The `hinge` form is the simpler one of practitioners' articles: phi_var = max(0, d - delta_v),
    phi_dis = max(0, 2 delta_d - D), whose sum is divided by C^2 instead of C (C - 1), and gamma = 0.

    The features are those that the head offers: with `head.embedding_channels` a 1x1 projection of its attention's
    output, in the paper to 16 channels.

    Args:
        delta_v, delta_d: the margins.
        alpha, beta: factors of the first two terms.
        gamma: factor of the third; None is 0.001, and 0 in the hinge form.
        form: piecewise (the paper's) or hinge.
        class_weights: one per class, for rare ones: means over classes become weighted, those over pairs by the product
            of both weights. None weighs all alike.

    Raises:
        ValueError: an unknown form, a negative class weight.
    """

    on_features = True
    class_weights: Tensor | None

    def __init__(
        self,
        delta_v: float = 0.5,
        delta_d: float = 1.5,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float | None = None,
        form: Literal["piecewise", "hinge"] = "piecewise",
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if form not in ("piecewise", "hinge"):
            raise ValueError(f"form must be piecewise or hinge, got {form}")
        self.delta_v, self.delta_d = delta_v, delta_d
        self.alpha, self.beta = alpha, beta
        self.hinge = form == "hinge"
        self.gamma = (0.0 if self.hinge else 0.001) if gamma is None else gamma
        self.register_buffer("class_weights", checked_weights(class_weights, "class_weights"))

    def forward(self, features_BDHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, D, h, w) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored.

        The mask is brought to the features' size by nearest neighbour.
        """
        features_BDHW = features_BDHW.to(torch.promote_types(features_BDHW.dtype, torch.float32))
        size = features_BDHW.shape[-2:]
        small_mask = F.interpolate(mask_BHW[:, None].float(), size, mode="nearest-exact")[:, 0].long()
        valid = small_mask != IGNORE_INDEX
        features_ND, label_N = features_BDHW.permute(0, 2, 3, 1)[valid], small_mask[valid]
        pixels = sum_over_ranks(label_N.bincount(minlength=IGNORE_INDEX))
        present_C = pixels.nonzero()[:, 0]
        if len(present_C) == 0:
            return features_BDHW.sum() * 0
        class_N, count_C, weight_C = torch.searchsorted(present_C, label_N), pixels[present_C], self._weights(present_C)

        sum_CD = features_ND.new_zeros(len(present_C), features_ND.shape[1]).index_add(0, class_N, features_ND)
        mean_CD = differentiable_sum_over_ranks(sum_CD) / count_C[:, None]
        variance_N = self._variance(_norm(features_ND - mean_CD[class_N])) / count_C[class_N]
        # Of its own pixels only; with the factor, the mean over ranks is the sum over all pixels.
        variance = _share(variance_N * weight_C[class_N], weight_C.sum()) * world_size()
        distance = self._distances(mean_CD, weight_C)
        norm = _share(_norm(mean_CD) * weight_C, weight_C.sum())
        return self.alpha * variance + self.beta * distance + self.gamma * norm

    def _variance(self, distance: Tensor) -> Tensor:
        beyond = (distance - self.delta_v).clamp(min=0)
        if self.hinge:
            return beyond
        linear = distance - self.delta_d + (self.delta_d - self.delta_v) ** 2
        return torch.where(distance > self.delta_d, linear, beyond.square())

    def _distances(self, mean_CD: Tensor, weight_C: Tensor) -> Tensor:
        first, second = torch.triu_indices(len(mean_CD), len(mean_CD), offset=1, device=mean_CD.device)
        overlap = (2 * self.delta_d - _norm(mean_CD[first] - mean_CD[second])).clamp(min=0)
        weight = weight_C[first] * weight_C[second]
        if self.hinge:
            return _share(overlap * weight, weight_C.sum().square() / 2)
        return _share(overlap.square() * weight, weight.sum())

    def _weights(self, present_C: Tensor) -> Tensor:
        if self.class_weights is None:
            return torch.ones_like(present_C, dtype=torch.float32)
        if present_C[-1] >= len(self.class_weights):
            raise ConfigError(f"{len(self.class_weights)} class_weights, but there is a class {int(present_C[-1])}")
        return self.class_weights[present_C]


def _share(values: Tensor, total: Tensor) -> Tensor:
    """The sum of the values over a total that may be 0, as they then are."""
    return values.sum() / total.where(total > 0, 1.0)


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm over the last dimension, with gradient 0 instead of NaN at the zero vector."""
    squared = vectors.square().sum(dim=-1)
    return squared.where(squared > 0, 1.0).sqrt().where(squared > 0, 0.0)
