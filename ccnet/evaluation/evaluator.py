"""A model against a labelled data set."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ccnet.errors import UserError
from ccnet.evaluation.answers import Answer, labels_and_likelihood
from ccnet.evaluation.boundary import BoundaryCounts
from ccnet.evaluation.metrics import IGNORE_INDEX, ConfusionMatrix, Scores, mean_loss
from ccnet.evaluation.outcome import ImageScores, Outcome, Picture
from ccnet.evaluation.worst import WorstPictures

Batch = Mapping[str, Any]
"""image: uint8 (B, 3, H, W); mask: uint8 (B, H, W); name: B names; region, where regions are named: uint8 (B, H, W)."""


class Asks(Protocol):
    """What an `Inference` does."""

    def answer(self, model: nn.Module, image: Tensor, /) -> Answer:
        """What a model says about images (B, 3, H, W)."""
        ...


@dataclass
class Evaluator:
    """Called with a model, scores it on all batches; keeps what it found.

    Args:
        batches: makes a fresh pass over this rank's share of the data, of which the ranks take the images in turns.
        inference: asks the model.
        class_names: one per class.
        device: where the model is.
        sum_over_ranks: adds up the counts of all ranks.
        gather: the items of all ranks: the first of each, then the second of each, and so on.
        region_names: where pixels are counted once more by the region in which they lie: a name per index in the
            batches' `region`; pixels of other values lie in none.
        num_pictures: how many of the first samples to keep.
        num_worst: how many samples of the lowest mean IoU to keep.
        track: wraps the batches, to show progress.
        should_stop: asked before each batch whether to leave the evaluation; enough if one rank is told so.
    """

    batches: Callable[[], Iterable[Batch]]
    inference: Asks
    class_names: Sequence[str]
    device: torch.device
    sum_over_ranks: Callable[[Tensor], Tensor] = lambda counts: counts
    gather: Callable[[Sequence[Any]], list[Any]] = list
    region_names: Sequence[str] = ()
    num_pictures: int = 4
    num_worst: int = 20
    track: Callable[[Iterable[Batch]], Iterable[Batch]] = lambda batches: batches
    should_stop: Callable[[], bool] = lambda: False
    outcome: Outcome | None = field(default=None, init=False)

    def __call__(self, model: nn.Module) -> Scores | None:
        """Scores over the whole data set; every module's mode is as before afterwards.

        Returns:
            None where `should_stop` said so on any rank; the outcome then is that of the last evaluation.

        Raises:
            UserError: the model answers NaN; on all ranks alike.
        """
        share = _Share(self)
        stopped = False
        with evaluation_mode(model):
            for batch in self.track(self.batches()):
                stopped = self.should_stop()
                if stopped:
                    break
                mask = batch["mask"].to(self.device)
                answer = self.inference.answer(model, batch["image"].to(self.device))
                share.add(batch, mask, *labels_and_likelihood(answer, mask))
        if self.sum_over_ranks(torch.tensor(int(stopped), device=self.device)) > 0:
            return None
        self.outcome = share.joined()
        return self.outcome.scores


class _Share:
    """What this rank has found, and what all have."""

    def __init__(self, settings: Evaluator) -> None:
        self.settings = settings
        num_classes = len(settings.class_names)
        self.whole = ConfusionMatrix(num_classes)
        self.boundary = BoundaryCounts(num_classes)
        self.regions = {name: ConfusionMatrix(num_classes) for name in settings.region_names}
        self.images: list[ImageScores] = []
        self.first: list[Picture] = []
        self.worst = WorstPictures(settings.num_worst)

    def add(self, batch: Batch, mask: Tensor, prediction: Tensor, likelihood: Tensor) -> None:
        """Takes the images of a batch one by one."""
        for index, name in enumerate(batch["name"]):
            counts = self.whole.update(prediction[index], mask[index])
            self.boundary.update(prediction[index], mask[index])
            for number, region in enumerate(self.regions.values()):
                inside = batch["region"][index].to(mask.device) == number
                region.update(prediction[index], mask[index].where(inside, IGNORE_INDEX))
            picture = Picture(
                name,
                np.ascontiguousarray(batch["image"][index].permute(1, 2, 0).numpy()),
                batch["mask"][index].numpy(),
                prediction[index].cpu().numpy(),
                batch["region"][index].numpy() if self.regions else None,
            )
            overlap = torch.stack([counts.diagonal(), counts.sum(dim=1), counts.sum(dim=0)]).cpu().numpy()
            loss = mean_loss(likelihood[index], mask[index])
            self.images.append(ImageScores(name, overlap, loss, _digest(picture)))
            self.worst.add(self.images[-1].mean_iou, picture)
            if len(self.first) < self.settings.num_pictures:
                self.first.append(deepcopy(picture))  # views would keep the whole batch

    def joined(self) -> Outcome:
        """Of all ranks, each of which calls this."""
        settings = self.settings
        images = settings.gather(self.images)
        for image in images:
            if math.isnan(image.loss) and image.counts[1].any():
                raise UserError(f"{image.name}: the model answers NaN; leave out --amp, or take another checkpoint")
        regions = {name: self._total(region.counts) for name, region in self.regions.items()}
        whole, boundary = self._total(self.whole.counts), self._total(self.boundary.counts)
        scores = Scores(whole, settings.class_names, regions, _mean_loss_of(images), boundary)
        scored = sorted((image for image in images if not math.isnan(image.mean_iou)), key=lambda image: image.mean_iou)
        return Outcome(
            scores,
            images,
            self._pictures(images[: settings.num_pictures], self.first),
            self._pictures(scored[: settings.num_worst], self.worst.pictures),
        )

    def _total(self, counts: Tensor) -> Tensor:
        return self.settings.sum_over_ranks(counts.to(self.settings.device)).cpu()

    def _pictures(self, wanted: Sequence[ImageScores], own: Sequence[Picture]) -> list[Picture]:
        """Those of the wanted images, of which every rank sends what it has."""
        names = [image.name for image in wanted]
        found = {picture.name: picture for picture in self.settings.gather([p for p in own if p.name in names])}
        return [found[name] for name in names]


def _digest(picture: Picture) -> str:
    """SHA-256 of image and mask, hexadecimal."""
    hashed = hashlib.sha256(f"{picture.image.shape} {picture.mask.shape}".encode())
    hashed.update(picture.image.data)
    hashed.update(np.ascontiguousarray(picture.mask).data)
    return hashed.hexdigest()


def _mean_loss_of(images: Sequence[ImageScores]) -> float:
    """Over the valid pixels of all images, rounded once: the order of the images and their ranks change no bit."""
    pixels = [int(image.counts[1].sum()) for image in images]
    losses = [image.loss * count for image, count in zip(images, pixels, strict=True) if count]
    return math.fsum(losses) / sum(pixels) if losses else math.nan


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts each module's own mode back: frozen norms stay in evaluation mode while the rest trains."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
