"""The evaluator against a confusion matrix made directly."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.errors import UserError
from ccnet.evaluation.boundary import BoundaryCounts
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.maps import Held
from ccnet.evaluation.metrics import ConfusionMatrix, Scores
from ccnet.evaluation.outcome import Outcome

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
    return image[:, 0] % 3


class ByRed:
    """The red channel decides; the model has to be in eval mode."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def answer(self, model: nn.Module, image: Tensor) -> Held:
        assert not model.training
        self.seen.append(len(image))
        return Held(F.one_hot(predicted(image).long(), 3).permute(0, 3, 1, 2).float())


def evaluator(**options: Any) -> Evaluator:
    return Evaluator(**{"batches": batches, "inference": ByRed(), "class_names": "abc", "device": CPU, **options})


def scored(evaluate: Evaluator, model: nn.Module | None = None) -> Scores:
    scores = evaluate(model or nn.Identity())
    assert scores is not None
    return scores


def found_by(evaluate: Evaluator) -> Outcome:
    scored(evaluate)
    assert evaluate.outcome is not None
    return evaluate.outcome


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
    assert evaluate.outcome is not None
    assert evaluate.outcome.scores is scores
    assert list(scores.class_names) == ["a", "b", "c"]


def test_boundaries_are_those_of_the_direct_counts() -> None:
    """Oracle: the same counts, made image by image."""
    counts = BoundaryCounts(3)
    for batch in batches():
        for prediction, mask in zip(predicted(batch["image"]), batch["mask"], strict=True):
            counts.update(prediction, mask)
    boundary = scored(evaluator()).boundary
    assert boundary is not None
    assert torch.equal(boundary, counts.counts)


def test_every_image_has_scores_of_its_own() -> None:
    """Oracle: NumPy on its pixels; its mean IoU over the classes in it; SHA-256 of the shapes and the bytes."""
    images = iter(found_by(evaluator()).images)
    for batch in batches():
        for index, name in enumerate(batch["name"]):
            found, mask = next(images), batch["mask"][index].numpy()
            prediction = predicted(batch["image"])[index].numpy()
            classes = [(mask == label, (prediction == label) & (mask != 255)) for label in range(3)]
            assert found.name == name
            assert found.counts.T.tolist() == [[(a & b).sum(), a.sum(), b.sum()] for a, b in classes]
            assert found.counts.dtype == np.int64
            assert found.mean_iou == pytest.approx(np.mean([(a & b).sum() / (a | b).sum() for a, b in classes]))
            pixels = batch["image"][index].permute(1, 2, 0).numpy()
            digest = hashlib.sha256(b"(5, 4, 3) (5, 4)" + pixels.tobytes() + mask.tobytes())
            assert found.digest == digest.hexdigest()
    assert next(images, None) is None


def test_the_fingerprint_tells_data_apart() -> None:
    """Oracle: equal for equal data however it lies in memory and is put in batches; another for one other label, pixel,
    name, shape or order."""

    def fingerprint(samples: list[dict[str, Any]]) -> str:
        return found_by(evaluator(batches=lambda: samples)).fingerprint

    def single() -> list[dict[str, Any]]:
        return [{key: batch[key][i : i + 1] for key in batch} for batch in batches() for i in range(len(batch["name"]))]

    def changed(key: str) -> list[dict[str, Any]]:
        samples = single()
        if key == "name":
            samples[2]["name"] = ["other"]
        else:
            samples[2][key] = samples[2][key].clone()
            pixels = samples[2][key].view(-1)
            pixels[7] = 1 if pixels[7] == 0 else 0
        return samples

    turned = [{**each, "image": each["image"].mT, "mask": each["mask"].mT} for each in single()]
    same = [{**each, "image": each["image"].contiguous(memory_format=torch.channels_last)} for each in batches()]
    first = fingerprint(batches())
    assert fingerprint(single()) == fingerprint(same) == first
    others = [single()[::-1], turned, *map(changed, ("mask", "image", "name"))]
    assert len({first, *map(fingerprint, others)}) == 6


def of_accuracy(shares: list[float]) -> list[dict[str, Any]]:
    """Images of one class, of whose pixels such a share is predicted rightly; NaN ignores all of them."""
    made = []
    for number, share in enumerate(shares):
        image = torch.zeros(1, 3, 1, 100, dtype=torch.uint8)
        image[..., : 0 if math.isnan(share) else round(100 * (1 - share))] = 1
        mask = torch.full((1, 1, 100), 255 if math.isnan(share) else 0, dtype=torch.uint8)
        made.append({"image": image, "mask": mask, "name": [str(number)]})
    return made


@pytest.mark.parametrize("number", [0, 1, 3, 20])
def test_the_worst_pictures_are_kept(number: int) -> None:
    """Oracle: the order by hand: the lowest mean IoU first, the earlier of equals first, nothing without a score."""
    samples = of_accuracy([0.9, 0.5, 1.0, math.nan, 0.0, 0.5, 0.2])
    outcome = found_by(evaluator(batches=lambda: samples, num_worst=number))
    assert [picture.name for picture in outcome.worst] == ["4", "6", "1", "5", "0", "2"][:number]
    for picture in outcome.worst:
        sample = samples[int(picture.name)]
        assert np.array_equal(picture.image, sample["image"][0].permute(1, 2, 0).numpy())
        assert np.array_equal(picture.mask, sample["mask"][0].numpy())
        assert np.array_equal(picture.prediction, predicted(sample["image"])[0].numpy())


def test_an_image_without_labels_has_no_score() -> None:
    """Oracle: NaN for its IoU and its loss, and the loss of the others."""
    images = found_by(evaluator(batches=lambda: of_accuracy([math.nan, 1.0]))).images
    assert [math.isnan(image.mean_iou) for image in images] == [True, False]
    assert [math.isnan(image.loss) for image in images] == [True, False]
    assert scored(evaluator(batches=lambda: of_accuracy([math.nan, 1.0]))).loss == 0.0
    assert math.isnan(scored(evaluator(batches=lambda: of_accuracy([math.nan]))).loss)


class ByNumbers:
    """The red channel decides, where it is no 9: there the answer is NaN."""

    def answer(self, model: nn.Module, image: Tensor) -> Held:
        red = image[:, 0]
        right = F.one_hot((red % 3).long(), 3).permute(0, 3, 1, 2).float()
        return Held(right.masked_fill(red[:, None] == 9, math.nan))


def test_a_model_that_answers_nan_has_no_score() -> None:
    """Oracle: a line that names the first such image of any rank, although labels of class 2, which NaN would count as,
    make it perfect; NaN at ignored pixels alone is of no consequence."""
    good, bad = of_accuracy([1.0, 0.5]), of_accuracy([1.0])
    bad[0] = {**bad[0], "image": torch.full((1, 3, 1, 100), 9, dtype=torch.uint8), "name": ["night"]}
    bad[0]["mask"][:] = 2
    with pytest.raises(UserError, match="night: the model answers NaN; leave out --amp, or take another checkpoint"):
        evaluator(batches=lambda: good + bad, inference=ByNumbers())(nn.Identity())
    elsewhere = found_by(evaluator(batches=lambda: good)).images
    there = [replace(elsewhere[0], name="there", loss=math.nan)]
    with pytest.raises(UserError, match="there: the model answers NaN"):
        evaluator(batches=lambda: good, gather=lambda own: [*own, *there])(nn.Identity())
    bad[0]["mask"][:] = 255
    assert scored(evaluator(batches=lambda: good + bad, inference=ByNumbers())).pixel_accuracy == 0.75


def test_counts_are_summed_over_ranks_once() -> None:
    """Oracle: what the handed function returns, called with the whole matrix and with the boundaries; before both, the
    ranks agree that nobody stopped."""
    given = []

    def twice(counts: Tensor) -> Tensor:
        given.append(counts.clone())
        return counts * 2

    scores = scored(evaluator(sum_over_ranks=twice))
    stopped, matrix, boundary = given
    assert (stopped.item(), stopped.dtype) == (0, torch.int64)
    assert torch.equal(matrix, direct())
    assert torch.equal(scores.confusion, 2 * direct())
    assert scores.boundary is not None
    assert torch.equal(scores.boundary, 2 * boundary)


def test_what_other_ranks_bring_is_joined() -> None:
    """Oracle: another rank with the same images under other names: the mean loss stays, the worst of both are kept."""

    def with_another(items: Any) -> list[Any]:
        return [each for item in items for each in (item, replace(item, name=f"{item.name} there"))]

    samples = of_accuracy([0.5, 0.25])
    alone = found_by(evaluator(batches=lambda: samples))
    both = found_by(evaluator(batches=lambda: samples, gather=with_another, num_pictures=1, num_worst=3))
    assert [image.name for image in both.images] == ["0", "0 there", "1", "1 there"]
    assert both.scores.loss == alone.scores.loss
    assert [picture.name for picture in both.pictures] == ["0"]
    assert [picture.name for picture in both.worst] == ["1", "1 there", "0"]


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
    """Oracle: without ranks; the order of the sums must be the same on every rank: the boundaries last."""
    alone = scored(evaluator(batches=with_regions, region_names=["near", "far"]))
    given = []

    def twice(counts: Tensor) -> Tensor:
        given.append(counts.clone())
        return counts * 2

    both = scored(evaluator(batches=with_regions, region_names=["near", "far"], sum_over_ranks=twice))
    assert all(torch.equal(both.regions[name], 2 * counts) for name, counts in alone.regions.items())
    assert torch.equal(both.confusion, 2 * alone.confusion)
    assert [counts.numel() for counts in given] == [1, 9, 9, 9, 9]


def test_regions_without_names_are_not_scored() -> None:
    """Oracle: no region, in the scores or in the pictures."""
    outcome = found_by(evaluator(batches=with_regions))
    assert outcome.scores.regions == {}
    assert all(picture.region is None for picture in outcome.pictures)


def test_pictures_carry_their_regions() -> None:
    """Oracle: the regions of the first samples in order."""
    outcome = found_by(evaluator(batches=with_regions, region_names=["near", "far"], num_pictures=3))
    regions = [region.numpy() for batch in with_regions() for region in batch["region"]]
    kept = [picture.region for picture in outcome.pictures]
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

    class BySoftmax:
        @torch.inference_mode()
        def answer(self, model: nn.Module, image: Tensor) -> Held:
            return Held(model(image / 255.0).softmax(dim=1))

    scores = scored(evaluator(inference=BySoftmax()), model)
    assert scores.loss == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("asked", range(1, 5))
def test_an_evaluation_stops_before_the_next_batch(asked: int) -> None:
    """Oracle: by hand: the number of batches seen; the outcome is that of the evaluation before; a stop that
    comes after the last batch is too late."""
    calls = []

    def stop() -> bool:
        calls.append(1)
        return len(calls) >= asked

    evaluate, counting = evaluator(), ByRed()
    before = found_by(evaluate)
    evaluate.should_stop, evaluate.inference = stop, counting
    model = nn.Sequential(nn.Dropout())
    scores = evaluate(model)
    assert counting.seen == [2, 2, 1][: asked - 1]
    assert model[0].training
    if asked <= 3:
        assert scores is None
        assert evaluate.outcome is before
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
    assert evaluate.outcome is None


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

    class Broken:
        def answer(self, model: nn.Module, image: Tensor) -> Held:
            raise RuntimeError("out of memory")

    model = nn.Sequential(nn.Dropout()).train()
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluator(inference=Broken())(model)
    assert model.training
    assert model[0].training


@pytest.mark.parametrize("number", [0, 1, 3, 99])
def test_the_first_pictures_are_kept(number: int) -> None:
    """Oracle: the samples in order, over batches of uneven size; not more than asked for."""
    evaluate = evaluator(num_pictures=number)
    pictures = [found_by(evaluate).pictures for _ in range(2)][1]
    samples = [(b["name"][i], b["image"][i], b["mask"][i]) for b in batches() for i in range(len(b["name"]))]
    assert len(pictures) == min(number, sum(SIZES))
    for picture, (name, image, mask) in zip(pictures, samples, strict=False):
        assert picture.name == name
        assert np.array_equal(picture.image, image.permute(1, 2, 0).numpy())
        assert np.array_equal(picture.mask, mask.numpy())
        assert np.array_equal(picture.prediction, predicted(image[None])[0].numpy())
        assert {array.dtype for array in (picture.image, picture.mask, picture.prediction)} == {np.dtype("uint8")}


def test_a_picture_holds_nothing_but_itself() -> None:
    """Oracle: NumPy: its arrays own what they show; none is a part of a batch that would stay with it."""
    nhwc = [{**each, "image": each["image"].contiguous(memory_format=torch.channels_last)} for each in with_regions()]
    for samples in (with_regions(), nhwc):
        outcome = found_by(evaluator(batches=lambda samples=samples: samples, region_names=["near", "far"]))
        for picture in (*outcome.pictures, *outcome.worst):
            for array in (picture.image, picture.mask, picture.prediction, picture.region):
                assert array is not None
                assert array.flags.owndata
