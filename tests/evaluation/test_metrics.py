"""Scores against a loop, torchmetrics and numbers worked out by hand."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from ccnet.evaluation.inference import Inference
from ccnet.evaluation.metrics import ConfusionMatrix, CrossEntropy, Scores


def batches(num_classes: int = 5, count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Predictions (int64) and masks (uint8) with a third of the pixels ignored."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(count):
        prediction, mask = torch.randint(0, num_classes, (2, 2, 7, 5), generator=generator)
        pairs.append((prediction, mask.masked_fill(torch.rand(2, 7, 5, generator=generator) < 0.3, 255).byte()))
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


def test_counts_and_iou_are_those_of_torchmetrics() -> None:
    """Oracle: torchmetrics with ignore_index=255."""
    matrix = MulticlassConfusionMatrix(5, ignore_index=255)
    jaccard = MulticlassJaccardIndex(5, ignore_index=255, average=None)
    for prediction, mask in batches():
        matrix.update(prediction, mask.long())
        jaccard.update(prediction, mask.long())
    counts = confusion(batches())
    assert torch.equal(counts, matrix.compute())
    torch.testing.assert_close(Scores(counts, "abcde").iou.float(), jaccard.compute())


def test_counts_are_exact_integers() -> None:
    """Oracle: one more pixel than float32, and then than int32, can tell apart."""
    matrix = ConfusionMatrix(2)
    for start in (2**24, 2**31):
        matrix.counts[:] = start
        matrix.update(torch.ones(1, 1, 1).long(), torch.ones(1, 1, 1).byte())
        assert matrix.counts.dtype == torch.int64
        assert matrix.counts.tolist() == [[start, start], [start, start + 1]]


@pytest.mark.parametrize("where", ["mask", "prediction"])
@pytest.mark.parametrize("value", [3, 254, -1])
def test_a_class_out_of_range(where: str, value: int) -> None:
    """Oracle: a ValueError that names the tensor and the value, instead of a count in another cell."""
    tensors = {name: torch.zeros(1, 2, 2, dtype=torch.int64) for name in ("mask", "prediction")}
    tensors[where][0, 0, 0] = value
    with pytest.raises(ValueError, match=f"{where} holds class {value}, there are 3 classes"):
        ConfusionMatrix(3).update(**tensors)


def test_predictions_on_ignored_pixels_may_be_anything() -> None:
    """Oracle: all zeros."""
    matrix = ConfusionMatrix(2)
    matrix.update(torch.full((1, 2, 2), 77), torch.full((1, 2, 2), 255, dtype=torch.uint8))
    assert matrix.counts.tolist() == [[0, 0], [0, 0]]


def by_hand() -> Scores:
    """Class c is predicted but never true, d is in neither; d's prediction on the ignored pixel does not count."""
    matrix = ConfusionMatrix(4)
    mask, prediction = [0, 0, 0, 0, 1, 1, 255], [0, 0, 1, 2, 1, 1, 3]
    matrix.update(torch.tensor(prediction), torch.tensor(mask))
    return Scores(matrix.counts, ["a", "b", "c", "d"])


def test_scores_with_absent_classes_by_hand() -> None:
    """Oracle: a: 2 of 4, b: 2 of 3, c: 0 of 1; d has no score and is left out of the mean, so is c's accuracy."""
    scores = by_hand()
    assert scores.iou.dtype == torch.float64
    assert scores.iou.tolist()[:3] == pytest.approx([2 / 4, 2 / 3, 0])
    assert scores.accuracy.tolist()[:2] == pytest.approx([2 / 4, 1])
    assert [math.isnan(x) for x in scores.iou.tolist()] == [False, False, False, True]
    assert [math.isnan(x) for x in scores.accuracy.tolist()] == [False, False, True, True]
    assert scores.mean_iou == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert scores.mean_accuracy == pytest.approx((2 / 4 + 1) / 2)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)


def test_as_dict_by_hand() -> None:
    """Oracle: the same numbers under their names; no entry for the class without score."""
    expected = {"mIoU": 7 / 18, "mAcc": 0.75, "aAcc": 4 / 6, "IoU/a": 0.5, "IoU/b": 2 / 3, "IoU/c": 0.0}
    assert by_hand().as_dict() == pytest.approx(expected)
    assert replace(by_hand(), loss=0.125).as_dict() == pytest.approx({**expected, "loss": 0.125})


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


class Quarter(nn.Module):
    """A segmentor whose logits come at a quarter of the resolution."""

    align_corners = True

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, image: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.conv(image / 255.0))


def test_cross_entropy_of_whole_images_is_that_of_torch() -> None:
    """Oracle: F.cross_entropy of the upsampled logits over the pixels of all images, which differ in size and in the
    number of valid pixels; the sum is kept in float64."""
    model, entropy = Quarter().eval(), CrossEntropy(torch.device("cpu"))
    logits, labels = [], []
    for number, (height, width) in enumerate([(16, 24), (20, 12), (8, 8)]):
        image = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        mask = torch.randint(0, 5, (2, height, width), dtype=torch.uint8)
        mask[torch.rand(mask.shape) < 0.3 * number] = 255
        entropy.update(Inference()(model, image), mask)
        upsampled = F.interpolate(model(image).logits, (height, width), mode="bilinear", align_corners=True)
        logits.append(upsampled.movedim(1, -1).flatten(0, 2))
        labels.append(mask.flatten())
    expected = F.cross_entropy(torch.cat(logits).double(), torch.cat(labels).long(), ignore_index=255)
    count = (torch.cat(labels) != 255).sum()
    assert entropy.total.dtype == torch.float64
    assert entropy.total.item() / count.item() == pytest.approx(expected.item(), rel=1e-6)


def test_cross_entropy_is_finite_where_a_class_was_excluded() -> None:
    """Oracle: -log of the smallest normal float32; the ignored pixel, where 255 is no class, does not count."""
    entropy = CrossEntropy(torch.device("cpu"))
    probabilities = torch.tensor([[0.0, 1.0, 0.25], [1.0, 0.0, 0.75]])[None, :, None]
    entropy.update(probabilities, torch.tensor([[[0, 0, 255]]], dtype=torch.uint8))
    assert entropy.total.item() == pytest.approx(126 * math.log(2))


def test_cross_entropy_of_many_pixels_does_not_drown() -> None:
    """Oracle: one addend that float32 would lose beside 2^25."""
    entropy = CrossEntropy(torch.device("cpu"))
    entropy.total += 2**25
    entropy.update(torch.full((1, 1, 1, 1), 0.75), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert entropy.total.item() - 2**25 == pytest.approx(-math.log(0.75), rel=1e-6)


def test_cross_entropy_of_a_model_gone_bad_is_no_number() -> None:
    """Oracle: NaN, which no row holds, rather than a score."""
    entropy = CrossEntropy(torch.device("cpu"))
    entropy.update(torch.full((1, 2, 1, 1), math.nan), torch.zeros(1, 1, 1, dtype=torch.uint8))
    assert math.isnan(entropy.total)
    assert "loss" not in replace(by_hand(), loss=float(entropy.total)).as_dict()


def test_cross_entropy_needs_no_float64_of_mps() -> None:
    """Oracle: the device of the sum."""
    assert CrossEntropy(torch.device("mps")).total.device.type == "cpu"
