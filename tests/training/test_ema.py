"""Averaged weights against the sum that defines them."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from ccnet.models.activation_checkpointing import checkpoint_activations
from ccnet.training.ema import WeightAverage
from ccnet.training.trainer import StepResult


class Block(nn.Module):
    """Two layers, so that it is one that activation checkpointing takes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def result(step: int) -> StepResult:
    return StepResult(step, {}, torch.tensor(0.0), 0.1, 2)


def train(model: nn.Module, average: WeightAverage, steps: range) -> list[dict[str, Tensor]]:
    """A few steps of SGD, always the same ones; the model's state after each of them."""
    device, dtype = next((parameter.device, parameter.dtype) for parameter in model.parameters())
    optimizer, states = torch.optim.SGD(model.parameters(), lr=0.1), []
    for step in steps:
        image = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step)).to(device, dtype)
        optimizer.zero_grad()
        model(image).square().mean().backward()
        optimizer.step()
        average(result(step + 1))
        states.append({name: value.detach().clone() for name, value in model.state_dict().items()})
    return states


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_moving_average_of_the_states(dtype: torch.dtype, decay: float) -> None:
    """Oracle: a loop in float64 over the recorded states, with the warm-up of the decay by hand; counters are equal."""
    model = nn.Sequential(Block(), nn.Conv2d(3, 2, 1)).to(dtype)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    average = WeightAverage(model, decay)
    for number, state in enumerate(train(model, average, range(25)), start=1):
        now = min(decay, (1 + number) / (10 + number))
        expected = {name: now * value + (1 - now) * state[name].double() for name, value in expected.items()}
    assert average.state_dict().keys() == expected.keys()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            close = {"rtol": 0.05, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
            torch.testing.assert_close(value.double(), expected[name], **close)
            assert value.dtype == dtype
        else:
            assert value == 25  # batches that the norm has seen


def test_the_first_step_counts_almost_whole() -> None:
    """Oracle: 2 / 11 of the initial weights and 9 / 11 of the next."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 11.0)
    average = WeightAverage(model, 0.999)
    nn.init.constant_(model.weight, 22.0)
    average(result(1))
    assert average.model.weight.item() == pytest.approx(2 / 11 * 11 + 9 / 11 * 22)


def test_the_model_is_left_alone() -> None:
    """Oracle: the same training without an average; the copy is in eval mode, needs no gradient, shares no memory."""
    torch.manual_seed(1)
    model = Block()
    alone = deepcopy(model)
    average = WeightAverage(model, 0.9)
    other = WeightAverage(alone, 0.0)
    ours, theirs = train(model, average, range(4))[-1], train(alone, other, range(4))[-1]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in average.model.modules())
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    own = {value.data_ptr() for value in model.state_dict().values()}
    assert not own & {value.data_ptr() for value in average.state_dict().values()}


@pytest.mark.parametrize("cut", [1, 6, 11])
def test_resuming_is_exact(cut: int) -> None:
    """Oracle: the run that was not interrupted, bit for bit; the state travels as plain tensors."""
    torch.manual_seed(2)
    model = Block()
    again = deepcopy(model)
    whole = WeightAverage(model, 0.7)
    states = train(model, whole, range(12))
    first = WeightAverage(again, 0.7)
    train(again, first, range(cut))
    fresh = Block()
    fresh.load_state_dict(states[cut - 1])
    second = WeightAverage(fresh, 0.7)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    train(fresh, second, range(cut, 12))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict({})


def test_activation_checkpointing_stays_with_the_original() -> None:
    """Oracle: the copy's own answer: it neither sees nor changes the weights of the model that trains."""
    model = nn.Sequential(Block(), Block())
    plain = deepcopy(model)
    checkpoint_activations(model)
    average, twin = WeightAverage(model, 0.9), WeightAverage(plain, 0.9)
    train(model, average, range(5))
    train(plain, twin, range(5))
    image = torch.randn(1, 3, 4, 4)
    expected = twin.model(image)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(average.model(image), expected)
    assert average.state_dict().keys() == plain.state_dict().keys()


def test_shared_weights_move_once() -> None:
    """Oracle: the same average of a module that stands alone."""
    layer = nn.Linear(2, 2)
    tied, single = nn.ModuleList([layer, layer]), nn.ModuleList([deepcopy(layer)])
    averages = [WeightAverage(tied, 0.5), WeightAverage(single, 0.5)]
    for model, average in zip((tied, single), averages, strict=True):
        nn.init.constant_(model[0].weight, 3.0)
        average(result(100))
    assert averages[0].model[0] is averages[0].model[1]
    assert torch.equal(averages[0].model[0].weight, averages[1].model[0].weight)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_is_none(decay: float) -> None:
    """Oracle: the documented range."""
    with pytest.raises(ValueError, match="must lie in"):
        WeightAverage(nn.Linear(1, 1), decay)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_averages_as_the_cpu_does() -> None:
    """Oracle: the average of the same states on the CPU, and every tensor on the device."""
    model = Block().cuda()
    average = WeightAverage(model, 0.9)
    twin_model = deepcopy(model).cpu()
    twin = WeightAverage(twin_model, 0.9)
    for number, state in enumerate(train(model, average, range(10)), start=1):
        twin_model.load_state_dict(state)
        twin(result(number))
    for name, value in average.state_dict().items():
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), twin.state_dict()[name], rtol=1e-6, atol=1e-6)
