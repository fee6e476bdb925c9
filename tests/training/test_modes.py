"""Frozen norms stay what they are while the rest trains."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from ccnet.training.modes import freeze_norms, training_mode


def network() -> nn.Sequential:
    """Two stages of convolution and normalisation, whose statistics are not those that they began with."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)]
    made = nn.Sequential(*layers)
    for norm in (made[1], made[4]):
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight)
    return made


def test_a_frozen_norm_is_one_affine_map_and_the_rest_trains() -> None:
    """Oracle: the formula with the stored statistics; the state before and after three steps."""
    model = network()
    freeze_norms(model)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    for _ in range(3):
        training_mode(model)
        assert model.training
        assert model[0].training
        optimizer.zero_grad()
        image = torch.randn(2, 3, 8, 8)
        model(image).square().mean().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(("1.", "4.")), name
    norm, x = model[1], torch.randn(2, 4, 5, 5)
    mean, scale, shift = (each.view(-1, 1, 1) for each in (norm.running_mean, norm.weight, norm.bias))
    deviation = (norm.running_var + norm.eps).sqrt().view(-1, 1, 1)
    torch.testing.assert_close(norm(x), (x - mean) / deviation * scale + shift)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    """Oracle: the gradient of the whole batch in float64; without freezing, a part has statistics of its own."""
    model = network().double()
    image, mask = torch.randn(4, 3, 8, 8, dtype=torch.float64), torch.randint(0, 4, (4, 4, 4))

    def gradient(parts: int) -> torch.Tensor:
        training_mode(model)
        model.zero_grad()
        for x, y in zip(image.chunk(parts), mask.chunk(parts), strict=True):
            (F.cross_entropy(model(x), y) / parts).backward()
        found = model[0].weight.grad
        assert found is not None
        return found.clone()

    assert not torch.allclose(gradient(1), gradient(4))
    freeze_norms(model)
    torch.testing.assert_close(gradient(1), gradient(4), rtol=1e-9, atol=1e-12)


def test_a_norm_rests_exactly_while_all_its_parameters_are_frozen() -> None:
    """Oracle: the flags, phase by phase; norms without parameters and other layers train."""
    model = nn.Sequential(*network(), nn.BatchNorm2d(4, affine=False), nn.Dropout(0.5))
    model[:2].requires_grad_(False)
    training_mode(model)
    assert [module.training for module in model] == [True, False, True, True, True, True, True]
    model[4].weight.requires_grad_(False)
    training_mode(model)
    assert model[4].training
    model.requires_grad_(True)
    training_mode(model)
    assert all(module.training for module in model)


def test_it_reaches_through_wrappers() -> None:
    """Oracle: the flags of the norms in a module that wraps the model, as DistributedDataParallel does."""
    model = network()
    freeze_norms(model)
    wrapper = nn.Sequential(model)
    training_mode(wrapper)
    assert (model.training, model[1].training, model[4].training) == (True, False, False)
    wrapper.eval()
    assert not model[0].training
