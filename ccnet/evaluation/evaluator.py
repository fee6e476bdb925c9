"""A model against a labelled data set."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ccnet.evaluation.metrics import ConfusionMatrix, Scores


class Batch(Protocol):
    """image: uint8 (B, 3, H, W); mask: uint8 (B, H, W); name: B names; region, where regions are named: uint8
    (B, H, W)."""

    def __getitem__(self, key: str, /) -> Any: ...


@dataclass(frozen=True)
class Picture:
    """A sample with what the model made of it: image (H, W, 3), mask, prediction and region (H, W), all uint8."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    region: NDArray[np.uint8] | None = None


@dataclass
class Evaluator:
    """Called with a model, scores it on all batches; keeps the scores and the first pictures.

    Args:
        batches: makes a fresh pass over this rank's share of the data.
        inference: (model, image) -> probabilities.
        class_names: one per class.
        device: where the model is.
        sum_over_ranks: adds up the counts of all ranks.
        region_names: where pixels are counted once more by the region in which they lie: a name per index in the
            batches' `region`; pixels of other values lie in none.
        num_pictures: how many samples to keep.
        track: wraps the batches, to show progress.
    """

    batches: Callable[[], Iterable[Batch]]
    inference: Callable[[nn.Module, Tensor], Tensor]
    class_names: Sequence[str]
    device: torch.device
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda counts: counts
    region_names: Sequence[str] = ()
    num_pictures: int = 4
    track: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda batches: batches
    pictures: list[Picture] = field(default_factory=list, init=False)
    scores: Scores | None = field(default=None, init=False)

    def __call__(self, model: nn.Module) -> Scores:
        """Scores over the whole data set; the model's mode is as before afterwards."""
        matrix = ConfusionMatrix(len(self.class_names))
        regions = {name: ConfusionMatrix(len(self.class_names)) for name in self.region_names}
        self.pictures = []
        was_training = model.training
        model.eval()
        try:
            for batch in self.track(self.batches()):
                prediction = self.inference(model, batch["image"].to(self.device)).argmax(dim=1)
                mask = batch["mask"].to(self.device)
                matrix.update(prediction, mask)
                for index, region in enumerate(regions.values()):
                    inside = batch["region"].to(self.device) == index
                    region.update(prediction[inside], mask[inside])
                self._keep(batch, prediction)
        finally:
            model.train(was_training)
        by_region = {name: self._total(region) for name, region in regions.items()}
        scores = self.scores = Scores(self._total(matrix), self.class_names, by_region)
        return scores

    def _total(self, matrix: ConfusionMatrix) -> Tensor:
        return self.sum_over_ranks(matrix.counts.to(self.device)).cpu()

    def _keep(self, batch: Batch, prediction: Tensor) -> None:
        room = self.num_pictures - len(self.pictures)
        if room <= 0:
            return
        images = batch["image"].permute(0, 2, 3, 1).numpy()
        predictions = prediction.to("cpu", torch.uint8).numpy()
        regions = batch["region"].numpy() if self.region_names else repeat(None)
        kept = zip(batch["name"][:room], images, batch["mask"].numpy(), predictions, regions, strict=False)
        self.pictures += [Picture(*parts) for parts in kept]
