"""The category-consistent loss against its equations, as loops over classes and pixels."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from ccnet.losses.consistency import CategoryConsistency

Terms = tuple[float, float, float]
WEIGHTS = (0.5, 2.0, 0.0, 1.0)


def members_and_means(features: Tensor, mask: Tensor) -> tuple[dict[int, list[Tensor]], dict[int, Tensor]]:
    """Of each class, its features and their mean; the mask is read at the centre of each feature's cell."""
    batch, _, height, width = features.shape
    members: dict[int, list[Tensor]] = {}
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        row, column = (int((i + 0.5) * full / n) for i, full, n in zip((y, x), mask.shape[1:], (height, width)))  # noqa: B905
        if mask[b, row, column] != 255:
            members.setdefault(int(mask[b, row, column]), []).append(features[b, :, y, x])
    return members, {label: torch.stack(group).mean(0) for label, group in members.items()}


def naive(features: Tensor, mask: Tensor, delta_v: float = 0.5, delta_d: float = 1.5) -> Terms:
    """The three terms without their factors."""
    members, means = members_and_means(features, mask)
    variances = []
    for label, group in members.items():
        distances = [float(torch.dist(feature, means[label])) for feature in group]
        variances.append(sum(phi_variance(d, delta_v, delta_d) for d in distances) / len(group))
    pairs = [max(2 * delta_d - float(torch.dist(*pair)), 0) ** 2 for pair in itertools.permutations(means.values(), 2)]
    norms = [float(mean.norm()) for mean in means.values()]
    mean_variance, mean_distance, mean_norm = (sum(v) / max(1, len(v)) for v in (variances, pairs, norms))
    return mean_variance, mean_distance, mean_norm


def naive_hinge(features: Tensor, mask: Tensor) -> float:
    """l_var + l_dist with margins 0.5 and 1.5: 1/K sum_c mean_i relu(||f_i - mu_c|| - 0.5), and
    1/K sum_c 1/K sum_{c' != c} relu(3 - ||mu_c - mu_c'||)."""
    members, means = members_and_means(features, mask)
    variance = distance = 0.0
    for label, group in members.items():
        variance += sum(max(0, float(torch.dist(f, means[label])) - 0.5) for f in group) / len(group) / len(means)
        others = [means[other] for other in means if other != label]
        distance += sum(max(0, 3 - float(torch.dist(means[label], other))) for other in others) / len(means) ** 2
    return variance + distance


def naive_weighted(features: Tensor, mask: Tensor, hinge: bool) -> float:
    """All three terms with the factor 1, as means over classes with the weights, and over pairs with their products."""
    members, means = members_and_means(features, mask)
    total = variance = pairs = pair_weights = norm = 0.0
    for label, group in members.items():
        distances = [float(torch.dist(f, means[label])) for f in group]
        values = [max(0, d - 0.5) if hinge else phi_variance(d, 0.5, 1.5) for d in distances]
        variance += WEIGHTS[label] * sum(values) / len(values)
        norm += WEIGHTS[label] * float(means[label].norm())
        total += WEIGHTS[label]
        for other in means.keys() - {label}:
            overlap = max(0, 3 - float(torch.dist(means[label], means[other])))
            pairs += WEIGHTS[label] * WEIGHTS[other] * (overlap if hinge else overlap**2)
            pair_weights += WEIGHTS[label] * WEIGHTS[other]
    return variance / total + pairs / (total**2 if hinge else pair_weights) + norm / total


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


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_hinge_form(scale: float, ignored: float) -> None:
    """Oracle: its two sums as loops; there is no norm term."""
    features, mask = batch(scale, ignored=ignored)
    loss = CategoryConsistency(form="hinge")(features, mask)
    assert loss.item() == pytest.approx(naive_hinge(features.detach(), mask), rel=1e-10)


def test_hinge_form_by_hand() -> None:
    """Oracle: two pixels of class 0 at 0 and 2, one of class 1 at 3: distances 1, 1, 0 to the means 1 and 3, so
    1/2 (0.5 + 0) + 1/2 (1/2 (3 - 2) + 1/2 (3 - 2)) = 0.75."""
    features = torch.tensor([0.0, 2.0, 3.0]).view(1, 1, 1, 3)
    loss = CategoryConsistency(form="hinge")(features, torch.tensor([[[0, 0, 1]]]))
    assert loss.item() == pytest.approx(0.75)


@pytest.mark.parametrize("form", ["piecewise", "hinge"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_class_weights(form: Literal["piecewise", "hinge"], scale: float) -> None:
    """Oracle: the weighted means as loops; with equal weights, the loss without; with one class of weight 0, 0."""
    features, mask = batch(scale)
    weighted = CategoryConsistency(gamma=1, form=form, class_weights=WEIGHTS)(features, mask)
    assert weighted.item() == pytest.approx(naive_weighted(features.detach(), mask, form == "hinge"), rel=1e-6)
    plain, equal = (CategoryConsistency(form=form, class_weights=w)(features, mask) for w in (None, [2.0] * 4))
    torch.testing.assert_close(plain, equal)
    alone = CategoryConsistency(form=form, class_weights=WEIGHTS)(features, torch.full_like(mask, 2))
    assert alone.item() == 0


@pytest.mark.parametrize("form", ["piecewise", "hinge"])
def test_pixels_and_classes_have_no_order(form: Literal["piecewise", "hinge"]) -> None:
    """Oracle: the value before; the mask has the features' size."""
    features, mask = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randint(0, 4, (2, 4, 5))
    mask[0, 0] = 255
    pixels, classes = torch.randperm(20), torch.randperm(200)
    shuffled = features.flatten(2)[..., pixels].view_as(features)
    renamed = torch.cat([classes, torch.full((56,), 255)])[mask].flatten(1)[:, pixels].view_as(mask)
    loss = CategoryConsistency(form=form)
    torch.testing.assert_close(loss(shuffled, renamed), loss(features, mask))


def test_no_map_of_classes_by_pixels_by_channels() -> None:
    """Oracle: the sizes of all tensors that autograd keeps, below twice that of the features."""
    features, sizes = torch.randn(2, 16, 40, 40, requires_grad=True), []
    mask = torch.randint(0, 19, (2, 40, 40))

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        CategoryConsistency()(features, mask)
    assert max(sizes) <= features.numel()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"form": "hing"}, "form must be piecewise or hinge, got hing"),
        ({"class_weights": [1.0, -1.0]}, r"class_weights must be >= 0 and finite, got \[1.0, -1.0\]"),
    ],
)
def test_bad_values(values: dict[str, Any], message: str) -> None:
    """Oracle: the documented errors, which name the value and what is accepted."""
    with pytest.raises(ValueError, match=message):
        CategoryConsistency(**values)


def test_too_few_class_weights() -> None:
    """Oracle: an error that names their number and the class that has none."""
    with pytest.raises(ValueError, match="2 class_weights, but there is a class 3"):
        CategoryConsistency(class_weights=[1.0, 2.0])(*batch(1.0))


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


@pytest.mark.parametrize("form", ["piecewise", "hinge"])
@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_gradcheck(scale: float, class_weights: Sequence[float] | None, form: Literal["piecewise", "hinge"]) -> None:
    """Oracle: finite differences in float64."""
    features, mask = batch(scale)
    loss = CategoryConsistency(gamma=1, form=form, class_weights=class_weights)
    assert torch.autograd.gradcheck(lambda x: loss(x, mask), features)
