"""Segmentation scores from one confusion matrix over the whole data set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

IGNORE_INDEX = 255


class ConfusionMatrix:
    """Counts pixels by (true class, predicted class) in int64, on the device of what it is given."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, mask: Tensor) -> None:
        """Adds class indices of equal shape; pixels whose mask is 255 do not count.

        Raises:
            ValueError: a class index out of range, which would otherwise vanish or land in another cell.
        """
        valid = mask != IGNORE_INDEX
        true, predicted = mask[valid].long(), prediction[valid].long()
        for name, index in (("mask", true), ("prediction", predicted)):
            outside = index[(index < 0) | (index >= self.num_classes)]
            if outside.numel():
                raise ValueError(f"{name} holds class {int(outside[0])}, there are {self.num_classes} classes")
        cells = torch.bincount(true * self.num_classes + predicted, minlength=self.num_classes**2)
        self.counts = self.counts.to(cells.device) + cells.view(self.num_classes, self.num_classes)


class CrossEntropy:
    """Adds up -log p(true class) over the valid pixels, in float64.

    Args:
        device: where the sum is; on MPS, which has no float64, it is on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.total = torch.zeros((), dtype=torch.float64, device=self.device)

    def update(self, probabilities: Tensor, mask: Tensor) -> None:
        """Adds the pixels of probabilities (B, C, H, W) whose mask (B, H, W) is not 255.

        A probability that is 0 in float32 counts as the smallest normal number: -log p is 87.3 at most.
        """
        valid = mask != IGNORE_INDEX
        true = mask.where(valid, 0).long()
        probability = probabilities.gather(1, true[:, None]).squeeze(1)[valid].float()
        losses = -probability.clamp_min(torch.finfo(torch.float32).tiny).log()
        self.total += losses.to(self.device).sum(dtype=torch.float64)


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix (rows: truth, columns: prediction).

    A class that neither mask nor prediction contains has no score (NaN) and is left out of the means.

    Args:
        confusion: of all valid pixels.
        class_names: one per class.
        regions: confusion matrix of each region that the data set names; regions need not cover all pixels.
        loss: mean of -log p(true class) over the valid pixels, in nats; NaN where unknown.
    """

    confusion: Tensor
    class_names: Sequence[str]
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    loss: float = math.nan

    @property
    def iou(self) -> Tensor:
        """Intersection over union per class, in float64."""
        hits, true, predicted = self._counts()
        return hits / (true + predicted - hits)

    @property
    def accuracy(self) -> Tensor:
        """Share of a class's pixels that were found, per class; NaN without such pixels."""
        hits, true, _ = self._counts()
        return hits / true

    @property
    def mean_iou(self) -> float:
        return float(self.iou.nanmean())

    @property
    def mean_accuracy(self) -> float:
        return float(self.accuracy.nanmean())

    @property
    def pixel_accuracy(self) -> float:
        """Share of all valid pixels that were found."""
        return _pixel_accuracy(self.confusion)

    @property
    def region_accuracy(self) -> dict[str, float]:
        """`pixel_accuracy` within each region; NaN without valid pixels."""
        return {name: _pixel_accuracy(confusion) for name, confusion in self.regions.items()}

    def as_dict(self) -> dict[str, float]:
        """The means, in 0..1 but for the loss, each class as `IoU/CLASS` and each region as `aAcc/REGION`, as far as
        defined."""
        means = {"mIoU": self.mean_iou, "mAcc": self.mean_accuracy, "aAcc": self.pixel_accuracy, "loss": self.loss}
        classes = {f"IoU/{name}": iou for name, iou in zip(self.class_names, self.iou.tolist(), strict=True)}
        regions = {f"aAcc/{name}": accuracy for name, accuracy in self.region_accuracy.items()}
        return {name: value for name, value in (means | classes | regions).items() if not math.isnan(value)}

    def summary(self) -> str:
        """The one line that sums it up, in per cent."""
        return (
            f"mIoU {100 * self.mean_iou:.1f}  mAcc {100 * self.mean_accuracy:.1f}  aAcc {100 * self.pixel_accuracy:.1f}"
        )

    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        counts = self.confusion.double()
        return counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)


def score_names(class_names: Sequence[str], region_names: Sequence[str] = ()) -> list[str]:
    """What `Scores.as_dict` calls its values, where all are defined."""
    blank = torch.ones(len(class_names), len(class_names))
    return list(Scores(blank, class_names, dict.fromkeys(region_names, blank), loss=0.0).as_dict())


def _pixel_accuracy(confusion: Tensor) -> float:
    return float(confusion.trace() / confusion.sum())
