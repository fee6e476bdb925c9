"""The loss contract, for every loss that YAML offers."""

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccnet.build import build_part
from ccnet.config import compose_config
from tests.contracts.conftest import names

LOSSES = names("loss")
RULES = ("inverse_log", "effective_number")
# What a YAML's words change, for the terms that have them: all are held to the same contract.
OPTIONS = [
    *(f"loss=cross_entropy loss.terms.cross_entropy.class_weights={rule}" for rule in RULES),
    "loss=cross_entropy loss.auxiliary.class_weights=inverse_log",
    "loss=cross_entropy loss.terms.cross_entropy.label_smoothing=0.1",
    *(f"loss=ohem loss.terms.ohem.normaliser={word}" for word in ("valid", "all")),
    "loss=ohem loss.terms.ohem.global_batch=true",
    "loss=ohem_official loss.terms.ohem.min_kept=64",
    "loss=ohem_consistency loss.terms.consistency.form=hinge",
    "loss=focal loss.terms.focal.gamma=0.5",
    "loss=dice loss.terms.dice.smooth=1.0",
]
ALL = [*(pytest.param(f"loss={name.values[0]}", id=name.values[0]) for name in LOSSES), *OPTIONS]


@dataclass
class Outputs:
    """A segmentor's outputs."""

    logits: Tensor
    auxiliary: Tensor
    features: Tensor


@functools.cache
def node_of(words: str) -> dict[str, Any]:
    """The composed configuration of a loss; composing takes longer than the loss."""
    return compose_config([*words.split(), "loss.auxiliary_weight=0.4"]).loss


def classes_of(words: str, otherwise: int) -> int:
    """Lists of class weights fix the number of classes."""
    weights = [term.get("class_weights") for term in node_of(words)["terms"].values()]
    return next((len(own) for own in weights if isinstance(own, list)), otherwise)


def loss_of(words: str, classes: int) -> Any:
    """The loss as it trains, with an auxiliary loss, and the training set's pixels told."""
    loss = build_part(node_of(words), align_corners=False)
    if loss.uses_class_pixels:
        loss.set_class_pixels([10**label % 97 for label in range(classes)])
    return loss


def outputs_of(
    num_classes: int, size: tuple[int, int], dtype: torch.dtype = torch.float32, scale: float = 1
) -> Outputs:
    shapes = [(2, num_classes, *size), (2, num_classes, *size), (2, 16, *size)]
    return Outputs(*[(scale * torch.randn(shape)).to(dtype).requires_grad_() for shape in shapes])


def assert_sound(words: str, outputs: Outputs, mask: Tensor) -> dict[str, Tensor]:
    """Named, scalar, finite, float32, not negative, and every gradient is finite."""
    losses: dict[str, Tensor] = loss_of(words, outputs.logits.shape[1])(outputs, mask)
    total = torch.stack(list(losses.values())).sum()
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    assert total.isfinite()
    assert all(value >= -1e-6 for value in losses.values())
    total.backward()
    for tensor in (outputs.logits, outputs.auxiliary, outputs.features):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert "auxiliary" in losses
    return losses


@pytest.mark.parametrize("words", ALL)
@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(1, 21),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    factor=st.integers(1, 4),
    labels=st.sampled_from(["all classes", "one class", "one valid pixel", "ignored"]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 999),
)
def test_any_batch(
    words: str,
    classes: int,
    height: int,
    width: int,
    factor: int,
    labels: str,
    dtype: torch.dtype,
    scale: float,
    seed: int,
) -> None:
    """Oracle: the contract; sizes from 1x1, single classes, nothing valid, half precision, logits around +-1e4."""
    torch.manual_seed(seed)
    classes = classes_of(words, classes)
    mask = torch.randint(0, classes, (2, factor * height, factor * width))
    if labels == "one class":
        mask[:] = int(mask[0, 0, 0])
    mask[torch.rand(mask.shape) < (1.1 if labels in ("ignored", "one valid pixel") else 0.3)] = 255
    if labels == "one valid pixel":
        mask[0, 0, 0] = classes - 1
    assert_sound(words, outputs_of(classes, (height, width), dtype, scale), mask)


@pytest.mark.parametrize("words", ALL)
def test_all_ignored_is_zero(words: str) -> None:
    """Oracle: nothing to learn from."""
    losses = assert_sound(words, outputs_of(classes_of(words, 5), (4, 4)), torch.full((2, 8, 8), 255))
    assert all(value == 0 for value in losses.values())


@pytest.mark.parametrize("words", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_only_in_the_input(words: str, dtype: torch.dtype) -> None:
    """Oracle: the loss of the same rounded outputs in float32, bit for bit."""
    classes = classes_of(words, 5)
    half, mask = outputs_of(classes, (20, 20), dtype), torch.randint(0, classes, (2, 80, 80))
    single = Outputs(half.logits.float(), half.auxiliary.float(), half.features.float())
    loss = loss_of(words, classes)
    assert {name: value.item() for name, value in loss(half, mask).items()} == {
        name: value.item() for name, value in loss(single, mask).items()
    }


@pytest.mark.parametrize("words", [each for each in ALL if "ohem_official" not in str(each)])
def test_pixels_have_no_order(words: str) -> None:
    """Oracle: the value before; outputs have the mask's size. Only the official OHEM looks at where a pixel is."""
    classes = classes_of(words, 5)
    outputs, mask = outputs_of(classes, (6, 7)), torch.randint(0, classes, (2, 6, 7))
    mask[0, :2] = 255
    order, loss = torch.randperm(42), loss_of(words, classes)
    shuffled = Outputs(
        *(each.flatten(2)[..., order].view_as(each) for each in (outputs.logits, outputs.auxiliary, outputs.features))
    )
    torch.testing.assert_close(loss(shuffled, mask.flatten(1)[:, order].view_as(mask)), loss(outputs, mask))


@pytest.mark.parametrize(
    "words", [each for each in ALL if "class_weights" not in str(each) and "camvid" not in str(each)]
)
def test_classes_have_no_order(words: str) -> None:
    """Oracle: the value before; weights of classes aside, which name them."""
    outputs, mask = outputs_of(5, (4, 5)), torch.randint(0, 5, (2, 13, 12))
    mask[0, :2] = 255
    order, loss = torch.randperm(5), loss_of(words, 5)
    renamed = torch.cat([order.argsort(), torch.full((251,), 255)])[mask]
    shuffled = Outputs(outputs.logits[:, order], outputs.auxiliary[:, order], outputs.features)
    torch.testing.assert_close(loss(shuffled, renamed), loss(outputs, mask))


@pytest.mark.parametrize("name", LOSSES)
def test_every_term_has_its_name_and_weight(name: str) -> None:
    """Oracle: the YAML; twice the weight is twice the value."""
    node = node_of(f"loss={name}")
    classes = classes_of(f"loss={name}", 5)
    outputs, mask = outputs_of(classes, (4, 4)), torch.randint(0, classes, (2, 8, 8))
    once = loss_of(f"loss={name}", classes)(outputs, mask)
    assert list(once) == [*node["terms"], "auxiliary"]
    twice = loss_of(" ".join([f"loss={name}", *(f"loss.weights.{term}=2" for term in node["terms"])]), classes)
    torch.testing.assert_close(
        {term: value for term, value in twice(outputs, mask).items() if term != "auxiliary"},
        {term: 2 * once[term] for term in node["terms"]},
    )
