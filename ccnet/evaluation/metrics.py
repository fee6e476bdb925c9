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

    def update(self, prediction: Tensor, mask: Tensor) -> Tensor:
        """Adds class indices, uint8 and of equal shape; pixels whose mask is 255 do not count.

        Returns:
            int64 (C, C): what was added.

        Raises:
            ValueError: a class index out of range, which would otherwise vanish or land in another cell, or tensors
                of another kind.
        """
        if prediction.shape != mask.shape or not prediction.dtype == mask.dtype == torch.uint8:
            kinds = [f"{each.dtype} {tuple(each.shape)}" for each in (prediction, mask)]
            raise ValueError(f"prediction and mask must be uint8 and of equal shape, got {' and '.join(kinds)}")
        # All pairs of bytes: what is out of range or ignored has cells of its own, and need not be sought beforehand.
        pairs = mask.flatten().int().mul_(256).add_(prediction.flatten())
        cells = torch.bincount(pairs, minlength=256 * 256).view(256, 256)
        added = cells[: self.num_classes, : self.num_classes]
        if added.sum() + cells[IGNORE_INDEX].sum() != mask.numel():
            self._complain(cells)
        self.counts = self.counts.to(cells.device) + added
        return added

    def _complain(self, cells: Tensor) -> None:
        """Raises:
        ValueError: naming the first class index out of range.
        """
        cells[IGNORE_INDEX] = 0
        for name, pixels in (("mask", cells.sum(dim=1)), ("prediction", cells.sum(dim=0))):
            if (outside := pixels[self.num_classes :].nonzero()).numel():
                label = self.num_classes + int(outside[0])
                raise ValueError(f"{name} holds class {label}, there are {self.num_classes} classes")


def mean_loss(likelihood: Tensor, mask: Tensor) -> float:
    """Mean of -log p(true class) over the valid pixels, in nats; NaN without any.

    It is the same to the bit however many threads compute it.

    Args:
        likelihood: float32 (H, W), the probability of the true class. One that is 0 counts as the smallest normal
            number: -log p is 87.3 at most. One that rounding took beyond 1 counts as 1.
        mask: uint8 (H, W); pixels of 255 do not count.
    """
    valid = mask != IGNORE_INDEX
    losses = -likelihood.clamp(torch.finfo(torch.float32).tiny, 1).log().where(valid, 0)
    losses = losses.cpu() if losses.is_mps else losses  # which has no float64
    # Row by row: threads would cut a single sum over all pixels into as many parts as they are.
    return float(losses.sum(dim=-1, dtype=torch.float64).sum() / valid.sum().to(losses.device))


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix (rows: truth, columns: prediction).

    A class that neither mask nor prediction contains has no score (NaN) and is left out of the means. Accuracy needs
    the mask: a class that is only predicted has none, as in mmsegmentation.

    Args:
        confusion: of all valid pixels.
        class_names: one per class.
        regions: confusion matrix of each region that the data set names; regions need not cover all pixels.
        loss: mean of -log p(true class) over the valid pixels, in nats; NaN where unknown.
        boundary: int64 (3, C), as `boundary.BoundaryCounts` has it; None where unknown.
    """

    confusion: Tensor
    class_names: Sequence[str]
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    loss: float = math.nan
    boundary: Tensor | None = None

    @property
    def iou(self) -> Tensor:
        """Intersection over union per class, in float64."""
        return _iou(*self._counts())

    @property
    def accuracy(self) -> Tensor:
        """Recall, the share of a class's pixels that were found, per class; NaN without such pixels."""
        hits, true, _ = self._counts()
        return hits / true

    @property
    def precision(self) -> Tensor:
        """Share of the pixels predicted as a class that are of it, per class; 0 where it was never predicted."""
        hits, true, predicted = self._counts()
        return (hits / predicted.clamp_min(1)).where(true + predicted > 0, math.nan)

    @property
    def dice(self) -> Tensor:
        """Dice coefficient, which is F1, the harmonic mean of precision and recall, per class."""
        hits, true, predicted = self._counts()
        return 2 * hits / (true + predicted)

    @property
    def boundary_iou(self) -> Tensor:
        """Boundary IoU per class (arXiv:2103.16562); NaN where it is unknown."""
        if self.boundary is None:
            return torch.full((len(self.class_names),), math.nan, dtype=torch.float64)
        return _iou(*self.boundary.double())

    @property
    def mean_iou(self) -> float:
        return float(self.iou.nanmean())

    @property
    def mean_accuracy(self) -> float:
        return float(self.accuracy.nanmean())

    @property
    def mean_precision(self) -> float:
        return float(self.precision.nanmean())

    @property
    def mean_dice(self) -> float:
        return float(self.dice.nanmean())

    @property
    def mean_boundary_iou(self) -> float:
        return float(self.boundary_iou.nanmean())

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of the IoUs, each weighed by its class's share of the valid pixels."""
        _, true, _ = self._counts()
        return float((self.iou * true).nansum() / true.sum())

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
        means = {
            "mIoU": self.mean_iou,
            "mAcc": self.mean_accuracy,
            "aAcc": self.pixel_accuracy,
            "mPrecision": self.mean_precision,
            "mDice": self.mean_dice,
            "fwIoU": self.frequency_weighted_iou,
            "mBIoU": self.mean_boundary_iou,
            "loss": self.loss,
        }
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
    regions = dict.fromkeys(region_names, blank)
    return list(Scores(blank, class_names, regions, loss=0.0, boundary=blank.new_ones(3, len(class_names))).as_dict())


def _iou(hits: Tensor, true: Tensor, predicted: Tensor) -> Tensor:
    return hits / (true + predicted - hits)


def _pixel_accuracy(confusion: Tensor) -> float:
    return float(confusion.trace().double() / confusion.sum())
