"""The weighted sum of named terms."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
