"""The loss contract, for every loss that YAML offers."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccnet.build import build_part
from tests.contracts.conftest import names, part

LOSSES = names("loss")


@dataclass
class Outputs:
    """A segmentor's outputs."""

    logits: Tensor
    auxiliary: Tensor
    features: Tensor


def classes_of(name: str, otherwise: int) -> int:
    """Class weights fix the number of classes."""
    weights = [term.get("class_weights") for term in part("loss", name)["terms"].values()]
    return next((len(own) for own in weights if own), otherwise)


def outputs_of(
    num_classes: int, size: tuple[int, int], dtype: torch.dtype = torch.float32, scale: float = 1
) -> Outputs:
    shapes = [(2, num_classes, *size), (2, num_classes, *size), (2, 16, *size)]
    return Outputs(*[(scale * torch.randn(shape)).to(dtype).requires_grad_() for shape in shapes])


def assert_sound(name: str, outputs: Outputs, mask: Tensor) -> dict[str, Tensor]:
    """Named, scalar, finite, float32, and so is every gradient."""
    losses: dict[str, Tensor] = build_part(part("loss", name, "loss.auxiliary_weight=0.4"), align_corners=False)(
        outputs, mask
    )
    total = torch.stack(list(losses.values())).sum()
    assert all(value.shape == () and value.dtype == torch.float32 for value in losses.values())
    assert total.isfinite()
    total.backward()
    for tensor in (outputs.logits, outputs.auxiliary, outputs.features):
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert "auxiliary" in losses
    return losses


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=10, deadline=None)
@given(classes=st.integers(2, 21), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 999))
def test_any_shape(name: str, classes: int, height: int, width: int, seed: int) -> None:
    """Oracle: the contract."""
    torch.manual_seed(seed)
    classes = classes_of(name, classes)
    mask = torch.randint(0, classes, (2, 3 * height, 3 * width))
    mask[torch.rand(mask.shape) < 0.3] = 255
    assert_sound(name, outputs_of(classes, (height, width)), mask)


@pytest.mark.parametrize("name", LOSSES)
def test_all_ignored_is_zero(name: str) -> None:
    """Oracle: nothing to learn from."""
    losses = assert_sound(name, outputs_of(classes_of(name, 5), (4, 4)), torch.full((2, 8, 8), 255))
    assert all(value == 0 for value in losses.values())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_extreme_logits(name: str, dtype: torch.dtype) -> None:
    """Oracle: the contract, with logits of about +-1e4."""
    assert_sound(name, outputs_of(classes_of(name, 5), (4, 4), dtype, scale=1e4), torch.randint(0, 5, (2, 8, 8)))


@pytest.mark.parametrize("name", LOSSES)
def test_a_single_class_and_a_single_pixel(name: str) -> None:
    """Oracle: the contract."""
    assert_sound(name, outputs_of(classes_of(name, 5), (4, 4)), torch.zeros(2, 8, 8, dtype=torch.int64))
    assert_sound(name, outputs_of(classes_of(name, 1), (1, 1)), torch.zeros(2, 1, 1, dtype=torch.int64))
