"""The weighted sum of named terms."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet.losses.cross_entropy import CrossEntropy
from ccnet.losses.weighted import WeightedLoss


@dataclass
class Outputs:
    logits: Tensor
    auxiliary: Tensor | None = None
    features: Tensor | None = None


class Seen(nn.Module):
    """A term that returns the mean of what it is given, and keeps it."""

    def __init__(self, on_features: bool = False) -> None:
        super().__init__()
        if on_features:
            self.on_features = True

    def forward(self, given: Tensor, mask: Tensor) -> Tensor:
        self.given, self.mask = given, mask
        return given.mean()


def outputs(dtype: torch.dtype = torch.float32) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    return Outputs(*(torch.randn(2, 3, 4, 3, generator=generator).to(dtype) for _ in range(3)))


MASK = torch.zeros(2, 13, 9, dtype=torch.int64)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_terms_are_weighted_and_named(align_corners: bool, dtype: torch.dtype) -> None:
    """Oracle: F.interpolate in float32 to the mask's size and the weights by hand; features stay as small as they
    are."""
    out, terms, auxiliary = outputs(dtype), {"main": Seen(), "near": Seen(True)}, Seen()
    losses = WeightedLoss(terms, {"main": 2.0, "near": 0.5}, auxiliary, 0.3, align_corners)(out, MASK)
    large, large_auxiliary = (
        F.interpolate(x.float(), (13, 9), mode="bilinear", align_corners=align_corners)
        for x in (out.logits, out.auxiliary)
    )
    torch.testing.assert_close(terms["main"].given, large)
    torch.testing.assert_close(auxiliary.given, large_auxiliary)
    assert torch.equal(terms["near"].given, out.features.float())
    assert all(term.mask is MASK for term in (*terms.values(), auxiliary))
    expected = {"main": 2 * large.mean(), "near": 0.5 * out.features.float().mean()}
    torch.testing.assert_close(losses, expected | {"auxiliary": 0.3 * large_auxiliary.mean()})


@pytest.mark.parametrize(("with_logits", "weight"), [(False, 0.4), (True, 0.0)])
def test_no_auxiliary_logits_or_no_weight(with_logits: bool, weight: float) -> None:
    """Oracle: the names of the terms; nothing is computed from auxiliary logits that do not count."""
    out, auxiliary = outputs() if with_logits else Outputs(outputs().logits), Seen()
    losses = WeightedLoss({"main": Seen()}, {"main": 1.0}, auxiliary, weight)(out, MASK)
    assert set(losses) == {"main"}
    assert not hasattr(auxiliary, "given")


@pytest.mark.parametrize("weights", [{}, {"main": 1.0, "more": 1.0}, {"mian": 1.0}])
def test_weights_that_do_not_belong_to_the_terms(weights: dict[str, float]) -> None:
    """Oracle: the documented ValueError, which lists both."""
    with pytest.raises(ValueError, match=r"loss terms \['main'\] need exactly these weights"):
        WeightedLoss({"main": Seen()}, weights, Seen())


def test_missing_features() -> None:
    """Oracle: a ValueError that says what is missing."""
    loss = WeightedLoss({"near": Seen(True)}, {"near": 1.0}, Seen())
    with pytest.raises(ValueError, match="needs the head's features"):
        loss(Outputs(outputs().logits), MASK)


@pytest.mark.parametrize("name", ["auxiliary", "loss", "lr", "step", "items", "focal-dice", "a.b", ""])
def test_names_that_the_log_cannot_show(name: str) -> None:
    """Oracle: the documented ValueError, which names it."""
    with pytest.raises(ValueError, match=f"cannot be named {name}; take another plain word"):
        WeightedLoss({name: Seen()}, {name: 1.0}, Seen())


def test_what_makes_no_sum() -> None:
    """Oracle: the documented ValueErrors: no terms, a negative weight, an auxiliary loss of features."""
    with pytest.raises(ValueError, match="at least one term"):
        WeightedLoss({}, {}, Seen())
    with pytest.raises(ValueError, match="weight of the loss term main must be >= 0, got -1"):
        WeightedLoss({"main": Seen()}, {"main": -1.0}, Seen())
    with pytest.raises(ValueError, match=r"weight of the loss term auxiliary must be >= 0, got -0\.4"):
        WeightedLoss({"main": Seen()}, {"main": 1.0}, Seen(), auxiliary_weight=-0.4)
    with pytest.raises(ValueError, match="auxiliary loss is given logits; Seen wants the head's features"):
        WeightedLoss({"main": Seen()}, {"main": 1.0}, Seen(on_features=True))


def test_terms_share_the_upsampled_logits() -> None:
    """Oracle: identity of what two terms are given."""
    terms = {"one": Seen(), "two": Seen()}
    WeightedLoss(terms, {"one": 1.0, "two": 1.0}, Seen())(outputs(), MASK)
    assert terms["one"].given is terms["two"].given


def test_class_pixels_reach_every_loss_with_a_rule() -> None:
    """Oracle: CrossEntropy's own method, for a term and for the auxiliary loss."""
    plain = WeightedLoss({"main": CrossEntropy()}, {"main": 1.0}, CrossEntropy([1.0, 2.0]))
    assert not plain.uses_class_pixels
    rules = CrossEntropy("inverse_log"), CrossEntropy("effective_number")
    loss = WeightedLoss({"main": rules[0], "more": Seen()}, {"main": 1.0, "more": 1.0}, rules[1])
    assert loss.uses_class_pixels
    loss.set_class_pixels([90, 10])
    for rule, told in zip(("inverse_log", "effective_number"), rules, strict=True):
        expected = CrossEntropy(rule)
        expected.set_class_pixels([90, 10])
        assert torch.equal(told.class_weights, expected.class_weights)
