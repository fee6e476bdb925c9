"""Class weights from numbers of pixels, against the formulas of their papers."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ccnet.data.class_pixels import class_pixels
from ccnet.data.folder import Folder
from ccnet.losses.class_weights import Rule, checked_weights, effective_number, inverse_log, weights_from_pixels
from ccnet.losses.cross_entropy import CrossEntropy
from tests.contracts.conftest import part

PIXELS = [70, 25, 5]


def test_inverse_log() -> None:
    """Oracle: ENet's 1 / ln(1.02 + share) for shares of 70, 25 and 5 %; its bounds of 1.4 and 50."""
    expected = [1 / math.log(1.02 + share) for share in (0.7, 0.25, 0.05)]
    assert inverse_log(torch.tensor(PIXELS)).tolist() == pytest.approx(expected, rel=1e-6)
    assert inverse_log(torch.tensor([1.0, 0.0])).tolist() == pytest.approx([1.4, 50], rel=0.02)


def test_effective_number() -> None:
    """Oracle: the sum 1 + beta + ... + beta^(n - 1), term by term; N is the mean of 70, 25, 5 and not of the class
    without pixels."""
    beta = 1 - 1 / (100 / 3)
    expected = [1 / sum(beta**i for i in range(n)) for n in PIXELS]
    found = effective_number(torch.tensor([*PIXELS, 0], dtype=torch.float64))
    assert found[:3].tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1, 10**7])
def test_effective_number_does_not_depend_on_the_resolution(scale: int) -> None:
    """Oracle: its limit 1 / (1 - exp(-n / N)); with the paper's N = 10 000 the classes would soon weigh all alike."""
    pixels = [each * 1000 * scale for each in PIXELS]
    limit = torch.tensor([1 / (1 - math.exp(-each / (sum(pixels) / 3))) for each in pixels])
    found = torch.tensor(weights_from_pixels("effective_number", pixels))
    torch.testing.assert_close(found, 3 * limit / limit.sum(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("rule", ["inverse_log", "effective_number"])
def test_weights_have_mean_one_over_the_classes_that_are_there(rule: Rule) -> None:
    """Oracle: by hand; a rarer class weighs more, one without pixels nothing."""
    common, absent, rare, rarest = weights_from_pixels(rule, [900, 0, 99, 1])
    assert absent == 0
    assert common < rare < rarest
    assert (common + rare + rarest) / 3 == pytest.approx(1)
    assert weights_from_pixels(rule, [0, 5]) == [0, 1]


def test_the_camvid_weights_are_such(camvid: Path) -> None:
    """Oracle: the list in configs/loss/cross_entropy_camvid.yaml: offset 1.05, mean 1, two digits."""
    terms = part("loss", "cross_entropy_camvid")["terms"]
    data = part("dataset", "camvid")
    dataset = Folder(str(camvid), "train", data["class_names"], data["palette"])
    weights = inverse_log(class_pixels(dataset), offset=1.05)
    found = [round(weight, 2) for weight in (weights / weights.mean()).tolist()]
    assert found == terms["cross_entropy"]["class_weights"]


@pytest.mark.parametrize("rule", ["inverse_log", "effective_number"])
def test_cross_entropy_with_a_rule(rule: Rule) -> None:
    """Oracle: F.cross_entropy with the weights; before they are known, an error that says how."""
    loss = CrossEntropy(rule)
    logits, mask = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    with pytest.raises(ValueError, match=f"class_weights: {rule} needs set_class_pixels first"):
        loss(logits, mask)
    loss.set_class_pixels(PIXELS)
    torch.testing.assert_close(
        loss(logits, mask), F.cross_entropy(logits, mask, torch.tensor(weights_from_pixels(rule, PIXELS)))
    )


def test_without_a_rule_pixels_change_nothing() -> None:
    """Oracle: the weights before."""
    loss = CrossEntropy([1.0, 2.0, 3.0])
    loss.set_class_pixels(PIXELS)
    assert loss.class_weights is not None
    assert loss.class_weights.tolist() == [1, 2, 3]


def test_bad_values() -> None:
    """Oracle: the documented errors, which name the value."""
    with pytest.raises(ValueError, match=r"class_weights must be >= 0 and finite, got \[1.0, -1.0\]"):
        checked_weights([1.0, -1.0], "class_weights")
    with pytest.raises(ValueError, match=r"got \[nan\]"):
        checked_weights([float("nan")], "class_weights")
    with pytest.raises(ValueError, match="needs a training set with labelled pixels"):
        weights_from_pixels("inverse_log", [0, 0])
    with pytest.raises(ValueError, match="must be a list, inverse_log or effective_number, got auto"):
        CrossEntropy("auto")
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\], got 1.5"):
        CrossEntropy(label_smoothing=1.5)
    with pytest.raises(ValueError, match="2 class_weights for 3 classes"):
        CrossEntropy([1.0, 2.0])(torch.zeros(1, 3, 1, 1), torch.zeros(1, 1, 1, dtype=torch.int64))
