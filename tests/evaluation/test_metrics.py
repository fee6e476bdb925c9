"""Scores against a loop, torchmetrics and numbers worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassPrecision,
    MulticlassRecall,
)

from ccnet.evaluation.metrics import ConfusionMatrix, Scores, mean_loss, score_names


def batches(num_classes: int = 5, count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Predictions and masks, uint8, with a third of the pixels ignored."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(count):
        prediction, mask = torch.randint(0, num_classes, (2, 2, 7, 5), generator=generator).byte()
        pairs.append((prediction, mask.masked_fill(torch.rand(2, 7, 5, generator=generator) < 0.3, 255)))
    return pairs


def confusion(pairs: list[tuple[Tensor, Tensor]], num_classes: int = 5) -> Tensor:
    matrix = ConfusionMatrix(num_classes)
    for prediction, mask in pairs:
        matrix.update(prediction, mask)
    return matrix.counts


def test_counts_pixel_by_pixel() -> None:
    """Oracle: a loop over the pixels: rows are the truth, columns the prediction, ignored pixels nowhere."""
    expected = np.zeros((5, 5), dtype=np.int64)
    for prediction, mask in batches():
        for true, predicted in zip(mask.flatten().tolist(), prediction.flatten().tolist(), strict=True):
            if true != 255:
                expected[true, predicted] += 1
    assert torch.equal(confusion(batches()), torch.from_numpy(expected))


def test_what_is_added_is_returned() -> None:
    """Oracle: the sum of it; in int64."""
    matrix = ConfusionMatrix(5)
    added = [matrix.update(*pair) for pair in batches()]
    assert torch.equal(sum(added, torch.zeros(5, 5)), matrix.counts)
    assert {each.dtype for each in added} == {torch.int64}


def test_counts_and_scores_are_those_of_torchmetrics() -> None:
    """Oracle: torchmetrics with ignore_index=255, class by class; the fourth class is never predicted, the fifth never
    true, the sixth in neither."""
    pairs = [(prediction.where(prediction != 3, 2), mask.where(mask != 4, 255)) for prediction, mask in batches()]
    scores = Scores(confusion(pairs, 6), "abcdef")
    matrix = MulticlassConfusionMatrix(6, ignore_index=255)
    kinds = {"iou": MulticlassJaccardIndex, "dice": MulticlassF1Score, "precision": MulticlassPrecision,
             "accuracy": MulticlassRecall}  # fmt: skip
    oracles = {name: kind(6, ignore_index=255, average=None) for name, kind in kinds.items()}
    for prediction, mask in pairs:
        for oracle in (matrix, *oracles.values()):
            oracle.update(prediction.long(), mask.long())
    assert torch.equal(scores.confusion, matrix.compute())
    for name, oracle in oracles.items():
        ours = getattr(scores, name)
        # What has no score here is 0 there.
        torch.testing.assert_close(ours.nan_to_num(0.0).float(), oracle.compute(), msg=name)
        assert ours.isnan().tolist() == [False] * 4 + [name == "accuracy", True]


def test_a_class_that_is_never_predicted_lowers_the_precision() -> None:
    """Oracle: by hand: 6 of 10 predicted pixels are right, and none of the other class; a class that is nowhere is no
    part of the mean, and one that is only predicted has no accuracy."""
    scores = Scores(torch.tensor([[6, 0, 0], [4, 0, 0], [0, 0, 0]]), "abc")
    assert scores.precision.tolist() == pytest.approx([0.6, 0.0, math.nan], nan_ok=True)
    assert scores.mean_precision == pytest.approx(0.3)
    assert Scores(torch.tensor([[6, 4], [0, 0]]), "ab").accuracy.tolist() == pytest.approx([0.6, math.nan], nan_ok=True)


def test_every_score_against_numpy() -> None:
    """Oracle: NumPy on boolean masks of the pixels themselves, the scores by their definitions."""
    prediction, mask = (torch.cat([pair[part].flatten() for pair in batches()]).numpy() for part in (0, 1))
    prediction, mask = prediction[mask != 255], mask[mask != 255]
    scores = Scores(confusion(batches()), "abcde")
    is_class = [(mask == label, prediction == label) for label in range(5)]
    iou = [(true & found).sum() / (true | found).sum() for true, found in is_class]
    assert scores.iou.tolist() == pytest.approx(iou)
    assert scores.frequency_weighted_iou == pytest.approx(np.average(iou, weights=np.bincount(mask)))
    assert scores.pixel_accuracy == pytest.approx((mask == prediction).mean())
    precision, recall = (
        [(true & found).sum() / (true, found)[which].sum() for true, found in is_class] for which in (1, 0)
    )
    assert scores.mean_precision == pytest.approx(np.mean(precision))
    assert scores.mean_accuracy == pytest.approx(np.mean(recall))
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert scores.mean_dice == pytest.approx(np.mean(f1))


def test_counts_are_exact_integers() -> None:
    """Oracle: one more pixel than float32, and then than int32, can tell apart."""
    matrix = ConfusionMatrix(2)
    for start in (2**24, 2**31):
        matrix.counts[:] = start
        matrix.update(torch.ones(1, 1, 1).byte(), torch.ones(1, 1, 1).byte())
        assert matrix.counts.dtype == torch.int64
        assert matrix.counts.tolist() == [[start, start], [start, start + 1]]


@pytest.mark.parametrize(("where", "value"), [("mask", 3), ("mask", 254), ("prediction", 3), ("prediction", 255)])
def test_a_class_out_of_range(where: str, value: int) -> None:
    """Oracle: a ValueError that names the tensor and the value, and not a count in another cell; nothing is added."""
    tensors = {name: torch.zeros(1, 2, 2, dtype=torch.uint8) for name in ("mask", "prediction")}
    tensors[where][0, 0, 0] = value
    tensors["mask"][0, 1, 1] = 255
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=f"{where} holds class {value}, there are 3 classes"):
        matrix.update(**tensors)
    assert not matrix.counts.any()


def test_every_byte_is_a_class_or_refused() -> None:
    """Oracle: the identity matrix of the largest number of classes, and each label beyond a smaller one."""
    labels = torch.arange(256).byte()[None]
    assert torch.equal(confusion([(labels, labels)], 255), torch.eye(255).long())
    for label in range(2, 255):
        with pytest.raises(ValueError, match=f"mask holds class {label}, there are 2"):
            ConfusionMatrix(2).update(torch.zeros(1, 1).byte(), torch.full((1, 1), label).byte())


@pytest.mark.parametrize("wrong", [torch.zeros(1, 2, 2), torch.zeros(2, 2).byte(), torch.zeros(1, 2, 2).long()])
def test_other_tensors_than_labels_are_refused(wrong: Tensor) -> None:
    """Oracle: the documented error; a float or another shape would be counted as something."""
    with pytest.raises(ValueError, match="must be uint8 and of equal shape, got"):
        ConfusionMatrix(2).update(wrong, torch.zeros(1, 2, 2).byte())


def test_predictions_on_ignored_pixels_may_be_anything() -> None:
    """Oracle: all zeros."""
    matrix = ConfusionMatrix(2)
    matrix.update(torch.full((1, 2, 2), 77).byte(), torch.full((1, 2, 2), 255, dtype=torch.uint8))
    assert matrix.counts.tolist() == [[0, 0], [0, 0]]


def by_hand() -> Scores:
    """Class c is predicted but never true, d is in neither; d's prediction on the ignored pixel does not count."""
    matrix = ConfusionMatrix(4)
    mask, prediction = [0, 0, 0, 0, 1, 1, 255], [0, 0, 1, 2, 1, 1, 3]
    matrix.update(torch.tensor(prediction).byte(), torch.tensor(mask).byte())
    return Scores(
        matrix.counts, ["a", "b", "c", "d"], boundary=torch.tensor([[1, 2, 0, 0], [2, 2, 0, 0], [3, 2, 1, 0]])
    )


def test_scores_with_absent_classes_by_hand() -> None:
    """Oracle: a: 2 of 4, b: 2 of 3, c: 0 of 1; d has no score and is left out of the means, so is c's accuracy. Dice:
    4 of 6, 4 of 5, 0 of 1; precision: 2 of 2, 2 of 3, 0 of 1; boundaries: 1 of 4, 2 of 2, 0 of 1."""
    scores = by_hand()
    assert scores.iou.dtype == torch.float64
    assert scores.iou.tolist()[:3] == pytest.approx([2 / 4, 2 / 3, 0])
    assert scores.accuracy.tolist()[:2] == pytest.approx([2 / 4, 1])
    assert [math.isnan(x) for x in scores.iou.tolist()] == [False, False, False, True]
    assert [math.isnan(x) for x in scores.accuracy.tolist()] == [False, False, True, True]
    assert scores.mean_iou == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert scores.mean_accuracy == pytest.approx((2 / 4 + 1) / 2)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    expected = {"dice": [4 / 6, 4 / 5, 0], "precision": [1, 2 / 3, 0], "boundary_iou": [1 / 4, 1, 0]}
    for name, values in expected.items():
        assert getattr(scores, name).tolist() == pytest.approx([*values, math.nan], nan_ok=True)
        assert getattr(scores, f"mean_{name}") == pytest.approx(sum(values) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((4 * 2 / 4 + 2 * 2 / 3) / 6)


def test_as_dict_by_hand() -> None:
    """Oracle: the same numbers under their names; no entry for the class without score."""
    expected = {"mIoU": 7 / 18, "mAcc": 0.75, "aAcc": 4 / 6, "IoU/a": 0.5, "IoU/b": 2 / 3, "IoU/c": 0.0,
                "mDice": 22 / 45, "mPrecision": 5 / 9, "fwIoU": 5 / 9, "mBIoU": 5 / 12}  # fmt: skip
    assert by_hand().as_dict() == pytest.approx(expected)
    assert replace(by_hand(), loss=0.125).as_dict() == pytest.approx({**expected, "loss": 0.125})


def test_the_names_of_scores_are_known_beforehand() -> None:
    """Oracle: the names in a dictionary of everything."""
    everything = Scores(torch.ones(2, 2), "ab", {"near": torch.ones(2, 2)}, 1.0, torch.ones(3, 2))
    assert score_names("ab", ["near"]) == list(everything.as_dict())
    assert {"mIoU", "mDice", "fwIoU", "mBIoU", "mPrecision", "loss", "IoU/b", "aAcc/near"} <= {*everything.as_dict()}
    assert "mBIoU" not in replace(everything, boundary=None).as_dict()


def test_regions_by_hand() -> None:
    """Oracle: 3 of 4 and 1 of 5 pixels; a region without pixels is NaN, and not in the dictionary."""
    regions = {"near": torch.tensor([[2, 1], [0, 1]]), "far": torch.tensor([[0, 3], [1, 1]])}
    none = torch.zeros(2, 2, dtype=torch.int64)
    scores = Scores(regions["near"] + regions["far"], ["a", "b"], {**regions, "nowhere": none})
    assert scores.region_accuracy == pytest.approx({"near": 3 / 4, "far": 1 / 5, "nowhere": math.nan}, nan_ok=True)
    added = scores.as_dict().items() - Scores(scores.confusion, ["a", "b"]).as_dict().items()
    assert dict(added) == pytest.approx({"aAcc/near": 3 / 4, "aAcc/far": 1 / 5})


def test_summary() -> None:
    """Oracle: the line written out: IoU 50/100 and 100/150, accuracies 50 % and 100 %."""
    scores = Scores(torch.tensor([[50, 50], [0, 100]]), ["a", "b"])
    assert scores.summary() == "mIoU 58.3  mAcc 75.0  aAcc 75.0"


def test_nothing_counted() -> None:
    """Oracle: no score, rather than 0 or 1."""
    scores = Scores(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"])
    assert all(math.isnan(score) for score in (scores.mean_iou, scores.mean_accuracy, scores.pixel_accuracy))
    assert scores.as_dict() == {}


def test_the_loss_is_that_of_torch() -> None:
    """Oracle: F.cross_entropy in float64, over the valid pixels."""
    logits = 5 * torch.randn(1, 4, 30, 20, dtype=torch.float64)
    mask = torch.randint(0, 4, (1, 30, 20))
    likelihood = logits.softmax(dim=1).gather(1, mask[:, None])[0, 0].float()
    mask[torch.rand(mask.shape) < 0.3] = 255
    expected = F.cross_entropy(logits, mask, ignore_index=255).item()
    assert mean_loss(likelihood, mask[0].byte()) == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_finite_where_a_class_was_excluded() -> None:
    """Oracle: half of -log of the smallest normal float32; the ignored pixel, where there may be anything, does not
    count; NaN where all are ignored."""
    likelihood, mask = torch.tensor([[0.0, 1.0, math.nan]]), torch.tensor([[0, 0, 255]], dtype=torch.uint8)
    assert mean_loss(likelihood, mask) == pytest.approx(63 * math.log(2))
    assert math.isnan(mean_loss(likelihood, torch.full_like(mask, 255)))


def test_the_loss_is_never_below_zero() -> None:
    """Oracle: 0 for the next float32 above 1, which averaging probabilities can give."""
    likelihood = torch.tensor([[1.0000001192092896, 1.0]])
    assert (likelihood > 1).any()
    assert mean_loss(likelihood, torch.zeros(1, 2, dtype=torch.uint8)) == 0


def test_the_loss_of_a_model_gone_bad_is_no_number() -> None:
    """Oracle: NaN, which no row holds, rather than a score."""
    loss = mean_loss(torch.tensor([[math.nan, 0.5]]), torch.zeros(1, 2, dtype=torch.uint8))
    assert math.isnan(loss)
    assert "loss" not in replace(by_hand(), loss=loss).as_dict()


def test_threads_change_no_bit_of_the_loss() -> None:
    """Oracle: one thread. A plain sum of so many pixels differs."""
    pixels, mask = torch.rand(6, 700, 900).clamp_min(1e-9), torch.zeros(700, 900, dtype=torch.uint8)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append([mean_loss(likelihood, mask) for likelihood in pixels])
    finally:
        torch.set_num_threads(1)
    assert found[0] == found[1] == found[2]
