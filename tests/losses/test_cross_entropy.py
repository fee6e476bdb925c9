"""Cross entropy against torch's own mean."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.losses.cross_entropy import CrossEntropy

WEIGHTS = (0.2, 1.0, 3.0)


def batch(ignored: float = 0.3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 4, 5) that want a gradient, and a mask with a share of ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=generator).to(dtype).requires_grad_()
    mask = torch.randint(0, 3, (2, 4, 5), generator=generator)
    return logits, mask.masked_fill(torch.rand(2, 4, 5, generator=generator) < ignored, 255)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_value_and_gradient(class_weights: tuple[float, ...] | None, label_smoothing: float, ignored: float) -> None:
    """Oracle: F.cross_entropy with reduction="mean", which divides by the weights of the valid pixels."""
    logits, mask = batch(ignored)
    weight = None if class_weights is None else torch.tensor(class_weights)
    expected = F.cross_entropy(logits, mask, weight, ignore_index=255, label_smoothing=label_smoothing)
    loss = CrossEntropy(class_weights, label_smoothing)(logits, mask)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_ignored_pixels_do_not_count() -> None:
    """Oracle: the mean of -log p over the valid pixels, pixel by pixel; no gradient elsewhere."""
    logits, mask = batch()
    losses = []
    for b, y, x in (mask != 255).nonzero().tolist():
        losses.append(-logits[b, :, y, x].double().softmax(0)[mask[b, y, x]].log())
    loss = CrossEntropy()(logits, mask)
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, mask != 255)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_all_ignored(class_weights: tuple[float, ...] | None, label_smoothing: float) -> None:
    """Oracle: the loss contract: a scalar 0 whose gradient is 0, not NaN."""
    logits, mask = batch(ignored=1.1)
    loss = CrossEntropy(class_weights, label_smoothing)(logits, mask)
    loss.backward()
    assert loss.shape == ()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_class_of_weight_zero_alone() -> None:
    """Oracle: the loss contract: 0, where torch's mean is 0 / 0."""
    logits = torch.randn(1, 2, 3, 3, requires_grad=True)
    loss = CrossEntropy([0.0, 1.0])(logits, torch.zeros(1, 3, 3, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [1, 300])
def test_half_precision_input(size: int) -> None:
    """Oracle: float64 on the same logits; one pixel, and as many as a sum in float16 cannot hold."""
    logits = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).half()
    mask = torch.zeros(1, size, size, dtype=torch.int64)
    expected = F.cross_entropy(logits.double(), mask).item()
    assert CrossEntropy()(logits, mask).item() == pytest.approx(expected, rel=2e-3)


def test_gradcheck() -> None:
    """Oracle: finite differences in float64."""
    logits, mask = batch(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: CrossEntropy(WEIGHTS)(x, mask), logits)
