"""A model against a labelled data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ccnet.evaluation.metrics import ConfusionMatrix, CrossEntropy, Scores
from ccnet.evaluation.outcome import Picture


class Batch(Protocol):
    """image: uint8 (B, 3, H, W); mask: uint8 (B, H, W); name: B names; region, where regions are named: uint8
    (B, H, W)."""

    def __getitem__(self, key: str, /) -> Any: ...


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
        should_stop: asked before each batch whether to leave the evaluation; enough if one rank is told so.
    """

    batches: Callable[[], Iterable[Batch]]
    inference: Callable[[nn.Module, Tensor], Tensor]
    class_names: Sequence[str]
    device: torch.device
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda counts: counts
    region_names: Sequence[str] = ()
    num_pictures: int = 4
    track: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda batches: batches
    should_stop: Callable[[], bool] = lambda: False
    pictures: list[Picture] = field(default_factory=list, init=False)
    scores: Scores | None = field(default=None, init=False)

    def __call__(self, model: nn.Module) -> Scores | None:
        """Scores over the whole data set; every module's mode is as before afterwards.

        Returns:
            None where `should_stop` said so on any rank; scores and pictures then are those of the last evaluation.
        """
        counts = _Counts(len(self.class_names), self.region_names, self.device)
        pictures: list[Picture] = []
        stopped = False
        with _evaluation_mode(model):
            for batch in self.track(self.batches()):
                stopped = self.should_stop()
                if stopped:
                    break
                probabilities = self.inference(model, batch["image"].to(self.device))
                prediction = probabilities.argmax(dim=1)
                counts.update(batch, probabilities, prediction)
                pictures += self._pictures(batch, prediction, self.num_pictures - len(pictures))
        if self.sum_over_ranks(torch.tensor(int(stopped), device=self.device)) > 0:
            return None
        self.scores, self.pictures = counts.scores(self.class_names, self.sum_over_ranks), pictures
        return self.scores

    def _pictures(self, batch: Batch, prediction: Tensor, room: int) -> list[Picture]:
        if room <= 0:
            return []
        images = batch["image"].permute(0, 2, 3, 1).numpy()
        predictions = prediction.to("cpu", torch.uint8).numpy()
        regions = batch["region"].numpy() if self.region_names else repeat(None)
        kept = zip(batch["name"][:room], images, batch["mask"].numpy(), predictions, regions, strict=False)
        return [Picture(*parts) for parts in kept]


class _Counts:
    """What an evaluation adds up on this rank."""

    def __init__(self, num_classes: int, region_names: Sequence[str], device: torch.device) -> None:
        self.device = device
        self.whole = ConfusionMatrix(num_classes)
        self.regions = {name: ConfusionMatrix(num_classes) for name in region_names}
        self.cross_entropy = CrossEntropy(device)

    def update(self, batch: Batch, probabilities: Tensor, prediction: Tensor) -> None:
        mask = batch["mask"].to(self.device)
        self.whole.update(prediction, mask)
        self.cross_entropy.update(probabilities, mask)
        for index, region in enumerate(self.regions.values()):
            inside = batch["region"].to(self.device) == index
            region.update(prediction[inside], mask[inside])

    def scores(self, class_names: Sequence[str], sum_over_ranks: Callable[[Tensor], Tensor]) -> Scores:
        """Of all ranks, each of which calls this."""

        def total(matrix: ConfusionMatrix) -> Tensor:
            return sum_over_ranks(matrix.counts.to(self.device)).cpu()

        regions = {name: total(region) for name, region in self.regions.items()}
        confusion, loss = total(self.whole), sum_over_ranks(self.cross_entropy.total).cpu()
        return Scores(confusion, class_names, regions, float(loss / confusion.sum()))


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts each module's own mode back: frozen norms stay in evaluation mode while the rest trains."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
