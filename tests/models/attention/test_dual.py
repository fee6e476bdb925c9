"""The gates, against NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from ccnet.models.attention.dual import ChannelAttention, DualAttention, initialize

Array = NDArray[np.float64]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hardsigmoid(x: Array) -> Array:
    return np.clip(x / 6 + 0.5, 0, 1)


def hardswish(x: Array) -> Array:
    return x * hardsigmoid(x)


def oracle(layer: DualAttention | ChannelAttention, x: Array, alpha: float, beta: float, light: bool) -> Array:
    """The published formula, position by position, with the layer's numbers."""
    weights = {key: value.detach().numpy() for key, value in layer.state_dict().items()}
    activation, gate = (hardswish, hardsigmoid) if light else (relu, sigmoid)
    output = np.empty_like(x)
    for image, out in zip(x, output, strict=True):
        mean = image.reshape(len(image), -1).mean(1)
        hidden = activation(weights["channel_gate.1.weight"][:, :, 0, 0] @ mean + weights["channel_gate.1.bias"])
        channel = gate(weights["channel_gate.3.weight"][:, :, 0, 0] @ hidden + weights["channel_gate.3.bias"])
        chosen = image * (1 + beta * (channel - 1))[:, None, None]
        out[:] = chosen
        if isinstance(layer, DualAttention):
            for row, column in np.ndindex(image.shape[1:]):
                logit = weights["spatial_gate.0.weight"][0, :, 0, 0] @ chosen[:, row, column]
                spatial = gate(logit + weights["spatial_gate.0.bias"][0])
                out[:, row, column] *= 1 + alpha * (spatial - 1)
    return output


sides, strengths = st.integers(1, 5), st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 20), sides, sides),
    reduction=st.integers(1, 32),
    alpha=strengths,
    beta=strengths,
    light=st.booleans(),
)
def test_the_formula(size: tuple[int, ...], reduction: int, alpha: float, beta: float, light: bool) -> None:
    """Oracle: NumPy in float64, for maps down to 1x1 and fewer channels than the reduction."""
    layer = DualAttention(size[1], reduction, alpha, beta, light=light).double().eval()
    for bias in (layer.channel_gate[1].bias, layer.channel_gate[3].bias, layer.spatial_gate[0].bias):
        nn.init.normal_(bias)
    x = torch.randn(size, dtype=torch.float64)
    np.testing.assert_allclose(layer(x).detach().numpy(), oracle(layer, x.numpy(), alpha, beta, light), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(size=st.tuples(st.integers(1, 3), st.integers(1, 20), sides, sides), beta=strengths)
def test_the_channel_gate_alone(size: tuple[int, ...], beta: float) -> None:
    """Oracle: the same without the spatial gate."""
    layer = ChannelAttention(size[1], beta=beta).double().eval()
    x = torch.randn(size, dtype=torch.float64)
    np.testing.assert_allclose(layer(x).detach().numpy(), oracle(layer, x.numpy(), 0, beta, False), atol=1e-12)


@pytest.mark.parametrize("light", [False, True])
def test_strengths_of_zero_are_the_identity(light: bool) -> None:
    """Oracle: the input, to the bit; without the gates' strength no gradient reaches them."""
    x = torch.randn(2, 8, 3, 5)
    layer = DualAttention(8, alpha=0, beta=0, light=light, dropout=0)
    assert torch.equal(layer(x), x)
    assert torch.equal(ChannelAttention(8, beta=0, dropout=0)(x), x)
    layer(x).sum().backward()
    assert not any(parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("layer", [DualAttention(6, 2, 0.8, 0.3, 0), ChannelAttention(6, 2, 0.7, 0)])
def test_gradients(layer: nn.Module) -> None:
    """Oracle: finite differences, of the input and of every parameter."""
    layer = layer.double()
    names = dict(layer.named_parameters())
    x = torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)

    def output(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *names.values()))


@pytest.mark.parametrize(
    ("layer", "number"),
    [
        (lambda: DualAttention(512), 66_625),
        (lambda: ChannelAttention(512), 66_112),
        (lambda: DualAttention(512, 16, light=True), 512 * 32 + 32 + 32 * 512 + 512 + 513),
        (lambda: DualAttention(2048), 2048 * 256 + 256 + 256 * 2048 + 2048 + 2049),
        (lambda: DualAttention(3), 3 + 1 + 3 + 3 + 3 + 1),
    ],
)
def test_parameters(layer: type[nn.Module], number: int) -> None:
    """Oracle: the sum by hand; the first one stands in the docstring. Three channels are reduced to one, not to 0."""
    assert sum(parameter.numel() for parameter in layer().parameters()) == number


def test_the_channel_gate_comes_first() -> None:
    """Oracle: a channel that the first gate closes is not there for the second one."""
    layer = DualAttention(2, reduction=1, dropout=0)
    nn.init.zeros_(layer.channel_gate[3].weight)
    layer.channel_gate[3].bias.data = torch.tensor([-200.0, 200.0])
    layer.spatial_gate[0].weight.data = torch.tensor([[[[100.0]], [[0.0]]]])
    gated = layer(torch.full((1, 2, 1, 1), 3.0))
    assert gated.flatten().tolist() == [0.0, 1.5]  # the spatial gate sees zeros, and answers 1/2


def test_dropout_takes_whole_channels_while_training() -> None:
    """Oracle: nn.Dropout2d: channels are zero or 1 / (1 - share) times the answer of evaluation."""
    layer, x = DualAttention(64, dropout=0.5), torch.rand(4, 64, 2, 2) + 1
    train, evaluated = layer(x), layer.eval()(x)
    kept = train.flatten(2).any(2)
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(train, 2 * evaluated * kept[:, :, None, None])
    assert DualAttention(8).dropout.p == ChannelAttention(8).dropout.p == 0.1


def test_convolutions_begin_as_kaiming_says() -> None:
    """Oracle: a standard deviation of sqrt(2 / (outputs x kernel area)), and biases of 0."""
    layer = nn.Sequential(DualAttention(1024), nn.Conv2d(16, 64, 3))
    initialize(layer)
    for conv in layer.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
            assert not conv.bias.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -0.1), ("alpha", 1.1), ("beta", 2.0), ("beta", float("nan")), ("reduction", 0), ("dropout", 1.0),
     ("dropout", -0.1)],
)  # fmt: skip
def test_values_out_of_range(name: str, value: float) -> None:
    """Oracle: the documented error, which names the argument."""
    with pytest.raises(ValueError, match=f"^{name} must"):
        DualAttention(8, **{name: value})
    if name != "alpha":
        with pytest.raises(ValueError, match=f"^{name} must"):
            ChannelAttention(8, **{name: value})
