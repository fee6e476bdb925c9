"""Cross entropy over the valid pixels."""

from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.distributed import mean_over_ranks

IGNORE_INDEX = 255


class CrossEntropy(nn.Module):
    """-log p of the true class, mean over all pixels that are not ignored."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """(B, C, H, W) and (B, H, W) with 255 = ignored -> scalar; 0 where every pixel is ignored."""
        total = F.cross_entropy(
            logits_BCHW,
            mask_BHW,
            ignore_index=IGNORE_INDEX,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return mean_over_ranks(total, (mask_BHW != IGNORE_INDEX).sum())
