"""The category-consistent loss of the journal version of CCNet."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.losses.cross_entropy import IGNORE_INDEX


class CategoryConsistency(nn.Module):
    """Features of one class gather around their mean, the means keep apart (CCNet, TPAMI version, Sec. 3.4).

    With class means mu over the batch, h a pixel's feature, d = ||h - mu||, D = ||mu_a - mu_b||, C classes present:

        phi_var = d - delta_d + (delta_d - delta_v)^2  where d > delta_d;  (d - delta_v)^2  where d > delta_v;  else 0
        phi_dis = (2 delta_d - D)^2                    where D <= 2 delta_d;  else 0
        loss = alpha mean_c mean_i phi_var + beta mean_{a != b} phi_dis + gamma mean_c ||mu_c||
    """

    on_features = True

    def __init__(
        self,
        delta_v: float = 0.5,
        delta_d: float = 1.5,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.001,
    ) -> None:
        super().__init__()
        self.delta_v, self.delta_d = delta_v, delta_d
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def forward(self, features_BDHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, D, h, w) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored.

        The mask is brought to the features' size by nearest neighbour.
        """
        features_BDHW = features_BDHW.to(torch.promote_types(features_BDHW.dtype, torch.float32))
        size = features_BDHW.shape[-2:]
        small_mask = F.interpolate(mask_BHW[:, None].float(), size, mode="nearest-exact")[:, 0].long()
        valid = small_mask != IGNORE_INDEX
        features_ND = features_BDHW.permute(0, 2, 3, 1)[valid]
        if features_ND.shape[0] == 0:
            return features_BDHW.sum() * 0
        _, class_N, count_C = small_mask[valid].unique(return_inverse=True, return_counts=True)
        num_present = len(count_C)
        mean_CD = features_ND.new_zeros(num_present, features_ND.shape[1]).index_add(0, class_N, features_ND)
        mean_CD = mean_CD / count_C[:, None]
        variance_N = self._variance(_norm(features_ND - mean_CD[class_N]))
        variance = (variance_N / count_C[class_N]).sum() / num_present
        first, second = torch.triu_indices(num_present, num_present, offset=1, device=mean_CD.device)
        distance = _norm(mean_CD[first] - mean_CD[second])
        distances = (2 * self.delta_d - distance).clamp(min=0).square().sum() / max(1, len(first))
        return self.alpha * variance + self.beta * distances + self.gamma * _norm(mean_CD).mean()

    def _variance(self, distance: Tensor) -> Tensor:
        linear = distance - self.delta_d + (self.delta_d - self.delta_v) ** 2
        return torch.where(distance > self.delta_d, linear, (distance - self.delta_v).clamp(min=0).square())


def _norm(vectors: Tensor) -> Tensor:
    """Euclidean norm over the last dimension, with gradient 0 instead of NaN at the zero vector."""
    squared = vectors.square().sum(dim=-1)
    return squared.where(squared > 0, 1.0).sqrt().where(squared > 0, 0.0)
