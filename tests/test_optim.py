"""Parameter groups and the optimizers made of them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ccnet.errors import ConfigError
from ccnet.models.backbones.mobilenet_v3 import MobileNetV3
from ccnet.models.heads.fcn import FCNHead
from ccnet.models.heads.rcca import RCCAHead
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.optim import adamw, parameter_groups, scaled_lr, sgd
from ccnet.schema import LearningRateScaling

Settings = dict[str, tuple[float, float]]


@pytest.fixture(scope="module")
def model() -> Segmentor:
    backbone = MobileNetV3("small")
    channels = backbone.out_channels
    return Segmentor(Preprocess(), backbone, RCCAHead(channels, 3, 8), FCNHead(channels, 3, 8))


def settings(model: nn.Module, groups: list[dict[str, object]]) -> Settings:
    """Name -> (learning rate, weight decay); every parameter must be in exactly one group."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [(names[p], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert len(found) == len(dict(found))
    return dict(found)  # type: ignore[arg-type]


def is_plain(model: nn.Module, name: str) -> bool:
    """A bias, a parameter of a norm, or gamma."""
    owner, _, kind = name.rpartition(".")
    return kind in ("bias", "gamma") or isinstance(model.get_submodule(owner), nn.BatchNorm2d)


def test_every_parameter_is_in_one_group(model: Segmentor) -> None:
    """Oracle: the module types: weights of convolutions decay, norms, biases and gamma do not; heads learn faster."""
    found = settings(model, parameter_groups(model, lr=0.1, weight_decay=0.01, head_lr_factor=10))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert "head.attention.gamma" in found
    for name, values in found.items():
        lr = 0.1 if name.startswith("backbone.") else 1.0
        assert values == (pytest.approx(lr), 0.0 if is_plain(model, name) else 0.01), name


def test_decay_all(model: Segmentor) -> None:
    """Oracle: one decay for everything; still every parameter once."""
    found = settings(model, parameter_groups(model, lr=0.1, weight_decay=0.01, decay_all=True))
    assert len(found) == len(list(model.parameters()))
    assert set(found.values()) == {(0.1, 0.01)}


def test_frozen_parameters_are_left_out() -> None:
    """Oracle: the parameters that want a gradient."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    model[0].requires_grad_(False)
    found = settings(model, parameter_groups(model, 0.1, 0.01))
    assert found == {"1.weight": (0.1, 0.01), "1.bias": (0.1, 0.0)}


@pytest.mark.parametrize(
    ("make", "torchs"),
    [
        (lambda m: sgd(m, 0.1, 0.8, 0.01, True), lambda p: torch.optim.SGD(p, 0.1, 0.8, 0, 0.01, True)),
        (lambda m: adamw(m, 0.1, [0.8, 0.9], 0.01), lambda p: torch.optim.AdamW(p, 0.1, (0.8, 0.9), 1e-8, 0.01)),
    ],
)
def test_steps_are_those_of_torch(
    make: Callable[[nn.Module], torch.optim.Optimizer],
    torchs: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> None:
    """Oracle: torch's optimizer with the same settings on the same gradients, three steps."""
    ours, theirs = (nn.Linear(4, 3, bias=False) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    for module, optimizer in ((ours, make(ours)), (theirs, torchs(list(theirs.parameters())))):
        for step in range(3):
            optimizer.zero_grad()
            (module(torch.ones(2, 4)).square().sum() * (step + 1)).backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0])
@pytest.mark.parametrize(
    ("make", "key"),
    [(make, key) for make in (sgd, adamw) for key in ("lr", "weight_decay", "head_lr_factor")] + [(sgd, "momentum")],
)
def test_values_that_make_no_number(make: Callable[..., torch.optim.Optimizer], key: str, value: float) -> None:
    """Oracle: the documented error, which names the key; 0 is taken."""
    model = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=rf"optimizer.{key} must be 0 or a positive finite number, got {value}"):
        make(model, **{"lr": 0.1, key: value})
    make(model, **{"lr": 0.1, key: 0.0})


@pytest.mark.parametrize(
    ("rule", "batch_size", "expected"),
    [
        ("none", 32, 0.01),
        ("linear", 32, 0.04),
        ("linear", 4, 0.005),
        ("sqrt", 32, 0.02),
        ("sqrt", 2, 0.005),
        ("linear", 8, 0.01),
        ("sqrt", 8, 0.01),
    ],
)
def test_learning_rate_follows_the_batch(rule: str, batch_size: int, expected: float) -> None:
    """Oracle: the rules by hand for a rate found with batches of 8; the batch of 8 itself changes nothing."""
    assert scaled_lr(0.01, batch_size, 8, rule) == pytest.approx(expected, rel=1e-15)
    assert scaled_lr(0.01, batch_size, 8, LearningRateScaling(rule)) == scaled_lr(0.01, batch_size, 8, rule)


@pytest.mark.parametrize("rule", LearningRateScaling)
def test_every_rule_of_the_configuration_is_known(rule: LearningRateScaling) -> None:
    """Oracle: batches of the same size; and a size that is none is refused by any rule."""
    assert scaled_lr(0.3, 5, 5, rule) == 0.3
    with pytest.raises(ConfigError, match="lr_batch_size must be at least 1, got 0"):
        scaled_lr(0.3, 5, 0, rule)
