"""The attention module: identity at first, official parameter names, what one and two loops can see."""

import pytest
import torch

from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.ops.criss_cross.reference import affinity, aggregation


def attention(channels: int = 8, gamma: float = 0.5) -> CrissCrossAttention:
    torch.manual_seed(0)
    module = CrissCrossAttention(channels)
    torch.nn.init.constant_(module.gamma, gamma)
    return module


def test_a_new_module_is_the_identity_to_the_bit() -> None:
    """Oracle: the input; gamma starts at 0."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 5, 3)
    assert torch.equal(CrissCrossAttention(16)(x), x)


def test_parameters_are_named_as_in_the_official_code() -> None:
    """Oracle: the names and shapes in speedinghzl/CCNet's CrissCrossAttention with 16 channels and reduction 8."""
    shapes = {name: tuple(tensor.shape) for name, tensor in CrissCrossAttention(16).state_dict().items()}
    assert shapes == {
        "query_conv.weight": (2, 16, 1, 1),
        "query_conv.bias": (2,),
        "key_conv.weight": (2, 16, 1, 1),
        "key_conv.bias": (2,),
        "value_conv.weight": (16, 16, 1, 1),
        "value_conv.bias": (16,),
        "gamma": (1,),
    }


def test_the_convolutions_reach_the_operator() -> None:
    """Oracle: x + gamma * attention of the module's own convolutions, called as convolutions."""
    module, x = attention(gamma=0.7), torch.randn(2, 8, 4, 3)
    value = module.value_conv(x)
    expected = x + 0.7 * aggregation(affinity(module.query_conv(x), module.key_conv(x)), value)
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(aggregation(module.attention(x), value), (expected - x) / 0.7)


@pytest.mark.parametrize(("loops", "seen"), [(1, "cross"), (2, "everything")])
def test_one_loop_sees_the_cross_two_loops_the_image(loops: int, seen: str) -> None:
    """Oracle: Sec. 3.3 of the paper; where the gradient of one output position is not 0."""
    module, x = attention().double(), torch.randn(1, 8, 5, 6, dtype=torch.float64, requires_grad=True)
    out = x
    for _ in range(loops):
        out = module(out)
    (gradient,) = torch.autograd.grad(out[0, :, 1, 2].sum(), x)
    expected = torch.full((5, 6), seen == "everything")
    expected[1, :] = expected[:, 2] = True
    assert torch.equal(gradient[0].abs().sum(0) > 0, expected)


def test_finite_under_bfloat16_autocast() -> None:
    """Oracle: float64 on the same weights, within the precision of bfloat16; inputs as large as features get."""
    module, x = attention(channels=64), 20 * torch.randn(1, 64, 9, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x)
        out.sum().backward()
    assert out.isfinite().all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in module.parameters())
    spread = (out - attention(channels=64).double()(x.double())).abs().mean() / out.abs().mean()
    assert spread < 0.1


@pytest.mark.parametrize(("channels", "reduction"), [(12, 8), (4, 8), (9, 2), (8, 0)])
def test_channels_must_be_divisible(channels: int, reduction: int) -> None:
    """Oracle: the documented ValueError, which names both numbers."""
    with pytest.raises(ValueError, match=f"multiple of reduction={reduction}, got {channels}"):
        CrissCrossAttention(channels, reduction)


def test_attention_weights_keep_their_precision_under_autocast() -> None:
    """Oracle: the weights from the same rounded query and key without autocast, to the bit."""
    query, key = (4 * torch.randn(1, 8, 5, 4)).bfloat16(), (4 * torch.randn(1, 8, 5, 4)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = affinity(query, key)
    assert torch.equal(inside, affinity(query, key))


def test_the_backend_is_checked_at_once() -> None:
    """Oracle: the documented ValueError, before the first image."""
    with pytest.raises(ValueError, match=r"backend must be one of auto, reference, .* got fast"):
        CrissCrossAttention(8, backend="fast")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_triton_without_cuda() -> None:
    """Oracle: the documented ValueError, before data is read."""
    with pytest.raises(ValueError, match="backend triton needs CUDA and Triton"):
        CrissCrossAttention(8, backend="triton")
