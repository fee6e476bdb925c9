"""The category-consistent loss against its equations, as loops over classes and pixels."""

import itertools

import pytest
import torch
from torch import Tensor

from ccnet.losses.consistency import CategoryConsistency

Terms = tuple[float, float, float]


def naive(features: Tensor, mask: Tensor, delta_v: float = 0.5, delta_d: float = 1.5) -> Terms:
    """The three terms without their factors; the mask is read at the centre of each feature's cell."""
    batch, _, height, width = features.shape
    members: dict[int, list[Tensor]] = {}
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        row, column = (int((i + 0.5) * full / n) for i, full, n in zip((y, x), mask.shape[1:], (height, width)))  # noqa: B905
        if mask[b, row, column] != 255:
            members.setdefault(int(mask[b, row, column]), []).append(features[b, :, y, x])
    means = {label: sum(group) / len(group) for label, group in members.items()}
    variances = []
    for label, group in members.items():
        distances = [float(torch.dist(feature, means[label])) for feature in group]
        variances.append(sum(phi_variance(d, delta_v, delta_d) for d in distances) / len(group))
    pairs = [max(2 * delta_d - float(torch.dist(*pair)), 0) ** 2 for pair in itertools.permutations(means.values(), 2)]
    norms = [float(mean.norm()) for mean in means.values()]
    mean_variance, mean_distance, mean_norm = (sum(v) / max(1, len(v)) for v in (variances, pairs, norms))
    return mean_variance, mean_distance, mean_norm


def phi_variance(distance: float, delta_v: float, delta_d: float) -> float:
    if distance > delta_d:
        return distance - delta_d + (delta_d - delta_v) ** 2
    return (distance - delta_v) ** 2 if distance > delta_v else 0.0


def batch(
    scale: float, size: tuple[int, int] = (4, 3), classes: int = 4, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Float64 features (2, 3, h, w) and a mask at four times that size and a little more."""
    generator = torch.Generator().manual_seed(7)
    features = scale * torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    mask = torch.randint(0, classes, (2, 4 * size[0] + 1, 4 * size[1] + 2), generator=generator)
    mask = mask.masked_fill(torch.rand(mask.shape, generator=generator) < ignored, 255)
    return features.requires_grad_(), mask


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
@pytest.mark.parametrize("factors", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.7, 0.4, 0.01)])
def test_equals_the_equations(scale: float, ignored: float, factors: Terms) -> None:
    """Oracle: the naive loops in float64; features within, between and beyond the two margins."""
    features, mask = batch(scale, ignored=ignored)
    loss = CategoryConsistency(0.5, 1.5, *factors)(features, mask)
    terms = naive(features.detach(), mask)
    expected = sum(factor * term for factor, term in zip(factors, terms, strict=True))
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("delta_v", "delta_d"), [(0.1, 0.4), (1.0, 3.0)])
def test_other_margins(delta_v: float, delta_d: float) -> None:
    """Oracle: the naive loops."""
    features, mask = batch(1.0)
    loss = CategoryConsistency(delta_v, delta_d, 1, 1, 1)(features, mask)
    assert loss.item() == pytest.approx(sum(naive(features.detach(), mask, delta_v, delta_d)), rel=1e-10)


def test_one_class_only() -> None:
    """Oracle: the naive loops; there is no pair of means, and the gradient is finite."""
    features, mask = batch(1.0, classes=1)
    loss = CategoryConsistency(gamma=1)(features, mask)
    variance, distance, norm = naive(features.detach(), mask)
    assert distance == 0
    assert loss.item() == pytest.approx(variance + norm, rel=1e-10)
    assert torch.autograd.grad(loss, features)[0].isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (3, 2)])
def test_equal_features_have_a_finite_gradient(size: tuple[int, int]) -> None:
    """Oracle: by hand: zero features give D = 0, so (2 delta_d)^2 for each pair of classes, and nothing else."""
    features = torch.zeros(2, 3, *size, requires_grad=True)
    mask = torch.tensor([0, 1]).view(2, 1, 1).expand(2, *size)
    loss = CategoryConsistency()(features, mask)
    assert loss.item() == 9
    assert torch.autograd.grad(loss, features)[0].isfinite().all()


def test_all_ignored() -> None:
    """Oracle: the loss contract: a scalar 0 with zero gradient."""
    features, mask = batch(1.0, ignored=1.1)
    loss = CategoryConsistency()(features, mask)
    assert loss.shape == ()
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, features)[0], torch.zeros_like(features))


def test_half_precision_input() -> None:
    """Oracle: the naive loops on the same rounded features; more pixels of a class than a sum in float16 can hold."""
    features, mask = batch(2.0, size=(60, 60), classes=2, ignored=0.0)
    half = (features.detach() + 30).half()
    expected = sum(naive(half.double(), mask))
    assert CategoryConsistency(gamma=1)(half, mask).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_gradcheck(scale: float) -> None:
    """Oracle: finite differences in float64."""
    features, mask = batch(scale)
    assert torch.autograd.gradcheck(lambda x: CategoryConsistency(gamma=1)(x, mask), features)
