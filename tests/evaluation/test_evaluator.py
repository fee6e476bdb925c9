"""The evaluator against a confusion matrix made directly."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.metrics import ConfusionMatrix, Scores

CPU = torch.device("cpu")
SIZES = (2, 2, 1)


def batches() -> list[dict[str, Any]]:
    """Batches of random images and masks, the last one smaller."""
    rng = np.random.default_rng(0)
    made = []
    for number, size in enumerate(SIZES):
        mask = rng.choice([0, 1, 2, 255], (size, 5, 4)).astype(np.uint8)
        image = rng.integers(0, 256, (size, 3, 5, 4), dtype=np.uint8)
        names = [f"city/{number}_{i}" for i in range(size)]
        made.append({"image": torch.from_numpy(image), "mask": torch.from_numpy(mask), "name": names})
    return made


def predicted(image: Tensor) -> Tensor:
    return image[:, 0].long() % 3


def inference(model: nn.Module, image: Tensor) -> Tensor:
    """The red channel decides; the model has to be in eval mode."""
    assert not model.training
    return F.one_hot(predicted(image), 3).permute(0, 3, 1, 2).float()


def evaluator(**options: Any) -> Evaluator:
    return Evaluator(**{"batches": batches, "inference": inference, "class_names": "abc", "device": CPU, **options})


def scored(evaluate: Evaluator, model: nn.Module | None = None) -> Scores:
    scores = evaluate(model or nn.Identity())
    assert scores is not None
    return scores


def direct() -> Tensor:
    matrix = ConfusionMatrix(3)
    for batch in batches():
        matrix.update(predicted(batch["image"]), batch["mask"])
    return matrix.counts


def test_scores_are_those_of_the_direct_confusion() -> None:
    """Oracle: a confusion matrix of the same predictions; a second call starts from zero."""
    evaluate = evaluator()
    for _ in range(2):
        scores = scored(evaluate)
        assert torch.equal(scores.confusion, direct())
    assert evaluate.scores is scores
    assert list(scores.class_names) == ["a", "b", "c"]


def test_counts_are_summed_over_ranks_once() -> None:
    """Oracle: what the handed function returns, called with the whole matrix and with the sum of the losses; before
    both, the ranks agree that nobody stopped."""
    given = []

    def twice(counts: Tensor) -> Tensor:
        given.append(counts.clone())
        return counts * 2

    scores = scored(evaluator(sum_over_ranks=twice))
    stopped, matrix, losses = given
    assert (stopped.item(), stopped.dtype) == (0, torch.int64)
    assert torch.equal(matrix, direct())
    assert torch.equal(scores.confusion, 2 * direct())
    assert losses.dtype == torch.float64
    assert scores.loss == pytest.approx(losses.item() / direct().sum().item())


def with_regions() -> list[dict[str, Any]]:
    """The same batches, every pixel in region 0, 1 or none."""
    rng = np.random.default_rng(1)
    return [
        {**batch, "region": torch.from_numpy(rng.choice([0, 1, 255], batch["mask"].shape).astype(np.uint8))}
        for batch in batches()
    ]


def test_each_region_is_counted_by_itself() -> None:
    """Oracle: a confusion matrix over the same predictions, the masks of other pixels set to 255; the whole stays."""
    scores = scored(evaluator(batches=with_regions, region_names=["near", "far"]))
    assert torch.equal(scores.confusion, direct())
    assert list(scores.regions) == ["near", "far"]
    for index, counts in enumerate(scores.regions.values()):
        matrix = ConfusionMatrix(3)
        for batch in with_regions():
            matrix.update(predicted(batch["image"]), batch["mask"].masked_fill(batch["region"] != index, 255))
        assert torch.equal(counts, matrix.counts)


def test_regions_are_summed_over_ranks_too() -> None:
    """Oracle: without ranks; the order of the sums must be the same on every rank: the whole and its loss last."""
    alone = scored(evaluator(batches=with_regions, region_names=["near", "far"]))
    given = []

    def twice(counts: Tensor) -> Tensor:
        given.append(counts.clone())
        return counts * 2

    both = scored(evaluator(batches=with_regions, region_names=["near", "far"], sum_over_ranks=twice))
    assert all(torch.equal(both.regions[name], 2 * counts) for name, counts in alone.regions.items())
    assert torch.equal(both.confusion, 2 * alone.confusion)
    assert [counts.numel() for counts in given] == [1, 9, 9, 9, 1]


def test_regions_without_names_are_not_scored() -> None:
    """Oracle: no region, in the scores or in the pictures."""
    evaluate = evaluator(batches=with_regions)
    assert scored(evaluate).regions == {}
    assert all(picture.region is None for picture in evaluate.pictures)


def test_pictures_carry_their_regions() -> None:
    """Oracle: the regions of the first samples in order."""
    evaluate = evaluator(batches=with_regions, region_names=["near", "far"], num_pictures=3)
    evaluate(nn.Identity())
    regions = [region.numpy() for batch in with_regions() for region in batch["region"]]
    kept = [picture.region for picture in evaluate.pictures]
    assert all(np.array_equal(left, right) for left, right in zip(kept, regions[:3], strict=True))


def test_batches_run_through_track() -> None:
    """Oracle: batches that `track` holds back are not scored."""

    def first_only(given: Iterable[Any]) -> Iterable[Any]:
        return list(given)[:1]

    scores = scored(evaluator(track=first_only))
    assert scores.confusion.sum() == (batches()[0]["mask"] != 255).sum()


def test_the_loss_is_that_of_the_probabilities() -> None:
    """Oracle: torch's cross entropy of the logits of a convolution over all valid pixels at once."""
    model = nn.Conv2d(3, 3, 3, padding=1)
    logits = [model(batch["image"] / 255.0) for batch in batches()]
    masks = torch.cat([batch["mask"] for batch in batches()]).long()
    expected = F.cross_entropy(torch.cat(logits), masks, ignore_index=255)

    def softmax(model: nn.Module, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return model(image / 255.0).softmax(dim=1)

    scores = scored(evaluator(inference=softmax), model)
    assert scores.loss == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("asked", range(1, 5))
def test_an_evaluation_stops_before_the_next_batch(asked: int) -> None:
    """Oracle: by hand: the number of batches seen; scores and pictures are those of the evaluation before; a stop that
    comes after the last batch is too late."""
    seen, calls = [], []

    def stop() -> bool:
        calls.append(1)
        return len(calls) >= asked

    def counting(model: nn.Module, image: Tensor) -> Tensor:
        seen.append(len(image))
        return inference(model, image)

    evaluate = evaluator()
    before, pictures = scored(evaluate), evaluate.pictures
    evaluate.should_stop, evaluate.inference = stop, counting
    model = nn.Sequential(nn.Dropout())
    scores = evaluate(model)
    assert seen == [2, 2, 1][: asked - 1]
    assert model[0].training
    if asked <= 3:
        assert scores is None
        assert evaluate.scores is before
        assert evaluate.pictures is pictures
    else:
        assert scores is not None


def test_one_rank_stops_all() -> None:
    """Oracle: None on a rank that saw all its batches, after the one meeting that the other rank comes to as well."""
    meetings = []

    def with_a_stopped_rank(counts: Tensor) -> Tensor:
        meetings.append(counts)
        return counts + 1

    evaluate = evaluator(sum_over_ranks=with_a_stopped_rank)
    assert evaluate(nn.Identity()) is None
    assert len(meetings) == 1
    assert evaluate.scores is None


@pytest.mark.parametrize("training", [True, False])
def test_every_modules_own_mode_is_restored(training: bool) -> None:
    """Oracle: the modes before; a frozen norm evaluates while the rest trains."""
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()), nn.Dropout()).train(training)
    model[0][0].eval()
    before = [module.training for module in model.modules()]
    evaluator()(model)
    assert [module.training for module in model.modules()] == before


def test_mode_is_restored_after_an_exception() -> None:
    """Oracle: training mode, and the exception itself comes through."""

    def broken(model: nn.Module, image: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    model = nn.Sequential(nn.Dropout()).train()
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluator(inference=broken)(model)
    assert model.training
    assert model[0].training


@pytest.mark.parametrize("number", [0, 1, 3, 99])
def test_the_first_pictures_are_kept(number: int) -> None:
    """Oracle: the samples in order, over batches of uneven size; not more than asked for."""
    evaluate = evaluator(num_pictures=number)
    for _ in range(2):
        evaluate(nn.Identity())
    samples = [(b["name"][i], b["image"][i], b["mask"][i]) for b in batches() for i in range(len(b["name"]))]
    assert len(evaluate.pictures) == min(number, sum(SIZES))
    for picture, (name, image, mask) in zip(evaluate.pictures, samples, strict=False):
        assert picture.name == name
        assert np.array_equal(picture.image, image.permute(1, 2, 0).numpy())
        assert np.array_equal(picture.mask, mask.numpy())
        assert np.array_equal(picture.prediction, predicted(image[None])[0].numpy())
        assert {array.dtype for array in (picture.image, picture.mask, picture.prediction)} == {np.dtype("uint8")}
