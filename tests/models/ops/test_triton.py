"""The Triton backend against Eq. 1-2 of the paper: in Triton's interpreter, or where there is a GPU, with -m gpu."""

from collections.abc import Callable, Iterable, Sequence

import pytest
import torch
from torch import Tensor

from ccnet.models.ops.criss_cross import reference
from ccnet.models.ops.criss_cross.projections import Projections
from tests.models.ops.test_criss_cross import naive

triton = pytest.importorskip("triton", reason="Triton is not installed")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
with pytest.MonkeyPatch.context() as environment:
    if DEVICE == "cpu":
        environment.setenv("TRITON_INTERPRET", "1")
    from triton import language
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    from ccnet.models.ops.criss_cross import triton_attention

OLD = tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 9)
pytestmark = [
    pytest.mark.gpu
    if DEVICE == "cuda"
    else pytest.mark.skipif(OLD, reason="the interpreters before Triton 3.9 trip over what NumPy 2 deprecates or lacks")
]
on_gpu = [pytest.mark.gpu, pytest.mark.skipif(DEVICE == "cpu", reason="needs CUDA")]


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU the kernels run as Python, in these tests alone."""
    if DEVICE == "cuda":
        return
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name, function in list(vars(language).items()):
        if isinstance(function, JITFunction):  # torchvision imports Triton's own functions too early for that
            monkeypatch.setattr(language, name, InterpretedFunction(function.fn))


def maps(
    batch: int, height: int, width: int, depth: int = 3, channels: int = 5, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Query and key, halves of one tensor as in the module, and value; channels-last leaves, products of size 1."""
    query_key = torch.randn(batch, height, width, 2 * depth, device=DEVICE) * depth**-0.25
    value = torch.randn(batch, height, width, channels, device=DEVICE)
    return [tensor.to(dtype).detach().requires_grad_() for tensor in (*query_key.chunk(2, dim=-1), value)]


def exact(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The same numbers in float64; leaves of their own."""
    return [tensor.detach().double().requires_grad_() for tensor in tensors]


def channels_last(operator: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator on (B, C, H, W), given and giving (B, H, W, C)."""
    return lambda *tensors: operator(*(tensor.permute(0, 3, 1, 2) for tensor in tensors)).permute(0, 2, 3, 1)


def by_reference(query_BDHW: Tensor, key_BDHW: Tensor, value_BCHW: Tensor) -> Tensor:
    """The reference as one operator."""
    return reference.aggregation(reference.affinity(query_BDHW, key_BDHW), value_BCHW)


def errors(actual: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[float]:
    """Largest difference of each pair."""
    return [(a.detach().double() - w.detach()).abs().max().item() for a, w in zip(actual, wanted, strict=True)]


def largest(tensors: Sequence[Tensor]) -> Tensor:
    """Largest absolute value of each."""
    return torch.stack([tensor.detach().abs().max() for tensor in tensors]).cpu()


def output_and_gradients(operator: Callable[..., Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The operator's output, and its gradients in a fixed direction."""
    out = operator(*inputs)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out, *torch.autograd.grad(out, inputs, direction)]


def module_inputs(size: tuple[int, int, int, int], depth: int, gamma: float = 0.7) -> tuple[Tensor, Projections]:
    """x and random projections in float32; again products of size 1."""
    channels = size[1]
    shapes = [(depth, channels), (depth,), (depth, channels), (depth,), (channels, channels), (channels,)]
    scales = [(channels * depth**0.5) ** -0.5] * 4 + [channels**-0.5] * 2
    tensors = [
        (torch.randn(shape, device=DEVICE) * scale).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    projections = Projections(*tensors, torch.full((1,), gamma, device=DEVICE, requires_grad=True))
    return torch.randn(size, device=DEVICE).requires_grad_(), projections


def naive_module(x: Tensor, *parameters: Tensor) -> Tensor:
    """x + gamma * naive(...)."""
    *matrices, gamma = parameters
    pairs = zip(matrices[::2], matrices[1::2], strict=True)
    query, key, value = (torch.einsum("dc,bchw->bdhw", weight, x) + bias[:, None, None] for weight, bias in pairs)
    return x + gamma * naive(query, key, value)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((2, 3, 4), id="rectangle"),
        pytest.param((1, 1, 4), id="row"),
        pytest.param((1, 4, 1), id="column"),
        pytest.param((2, 1, 1), id="position"),
        pytest.param((1, 2, 18, 130, 2), id="row_of_two_tiles"),  # this many channels leave room for tiles of 16
        pytest.param((1, 18, 2, 130, 2), id="column_of_two_tiles"),
        pytest.param((1, 2, 3, 17, 70), id="two_chunks_of_channels"),
    ],
)
def test_output_and_gradients(size: tuple[int, ...]) -> None:
    """Oracle: the naive loop in float64, and autograd through it."""
    inputs = maps(*size)
    wanted = output_and_gradients(channels_last(naive), exact(inputs))
    assert max(errors(output_and_gradients(triton_attention.gather, inputs), wanted)) < 1e-5


def test_any_memory_layout() -> None:
    """Oracle: the same numbers in (B, H, W, C) order, to the bit."""
    inputs = maps(2, 3, 2)
    planes = [
        tensor.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_() for tensor in inputs
    ]
    results = (output_and_gradients(triton_attention.gather, tensors) for tensors in (inputs, planes))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_gradients_of_the_module(layout: torch.memory_format) -> None:
    """Oracle: projections, naive loop and residual in float64; gradients of x and all seven parameters."""
    x, projections = module_inputs((2, 4, 2, 3), depth=2)
    inputs = [x.detach().to(memory_format=layout).requires_grad_(), *projections]
    wanted = output_and_gradients(naive_module, exact(inputs))
    actual = output_and_gradients(lambda x, *p: triton_attention.attend(x, Projections(*p), torch.float32), inputs)
    assert max(errors(actual, wanted)) < 1e-5
    assert actual[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("dtype", "top", "tolerance"), [(torch.float16, 60, 1e-2), (torch.bfloat16, 6, 4e-2)])
def test_half_precision(dtype: torch.dtype, top: float, tolerance: float) -> None:
    """Oracle: the naive loop in float64 on the same rounded inputs, with products up to +-top.

    bfloat16 keeps 8 bits, and the interpreter cuts the others off, where a GPU rounds.
    """
    query, key, value = (tensor.detach() for tensor in maps(1, 4, 3))
    scale = (top / torch.einsum("bijd,bkld->bijkl", query, key).abs().max()).sqrt()
    inputs = [tensor.to(dtype).requires_grad_() for tensor in (query * scale, key * scale, value)]
    wanted = output_and_gradients(channels_last(naive), exact(inputs))
    actual = output_and_gradients(triton_attention.gather, inputs)
    assert all(tensor.dtype == dtype for tensor in actual)
    assert (torch.tensor(errors(actual, wanted)) / largest(wanted)).max() < tolerance


@pytest.mark.parametrize("sign", [-1, 1])
def test_equal_logits_of_any_size_give_the_mean_of_the_cross(sign: int) -> None:
    """Oracle: the mean over the H + W - 1 positions by hand; products of +-1e6, beyond any finite mask value."""
    value = torch.randn(1, 3, 2, 4, device=DEVICE)
    same = torch.full((1, 3, 2, 1), 1e3, device=DEVICE)
    crosses = value.sum(1, keepdim=True) + value.sum(2, keepdim=True) - value
    torch.testing.assert_close(triton_attention.gather(same, sign * same, value), crosses / (3 + 2 - 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_gamma_zero_is_the_identity(dtype: torch.dtype) -> None:
    """Oracle: x, to the bit, products being exact or in half precision."""
    x, projections = module_inputs((1, 4, 2, 3), depth=2, gamma=0.0)
    y = triton_attention.attend(x, projections, dtype)
    assert y.dtype == x.dtype
    assert torch.equal(y, x)


def test_residual_keeps_the_precision_of_x() -> None:
    """Oracle: the naive module in float64; products in float16 under a small gamma, x in float16 is off by 5e-4."""
    x, projections = module_inputs((1, 4, 2, 3), depth=2, gamma=1e-3)
    y = triton_attention.attend(x, projections, torch.float16)
    assert y.dtype == torch.float32
    assert max(errors([y], [naive_module(*exact([x, *projections]))])) < 1e-5


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, True)])
def test_second_derivative(needed: tuple[bool, bool, bool]) -> None:
    """Oracle: the naive loop in float64, differentiated twice; inputs that need no gradient get none."""

    def second(operator: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
        for tensor, need in zip(inputs, needed, strict=True):
            tensor.requires_grad_(need)
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        first = torch.autograd.grad(operator(*inputs).pow(2).sum(), wanted, create_graph=True)
        return list(torch.autograd.grad(sum(tensor.pow(2).sum() for tensor in first), wanted))

    inputs = maps(1, 2, 3)
    wanted = second(channels_last(naive), exact(inputs))
    relative = torch.tensor(errors(second(triton_attention.gather, inputs), wanted)) / largest(wanted)
    assert relative.max() < 1e-5


def test_a_differentiable_gradient_is_the_same_gradient() -> None:
    """Oracle: the plain gradient; query and key depend on x, whose share through them must count once."""
    x = torch.randn(1, 4, 2, 3, device=DEVICE, requires_grad=True)
    shapes = [(2, 4), (2,), (2, 4), (2,), (4, 4), (4,), (1,)]
    projections = Projections(*(torch.randn(shape, device=DEVICE, requires_grad=True) for shape in shapes))
    out = triton_attention.attend(x, projections, torch.float32).square().sum()
    again = torch.autograd.grad(out, (x, *projections), create_graph=True)
    for differentiable, plain in zip(again, torch.autograd.grad(out, (x, *projections)), strict=True):
        torch.testing.assert_close(differentiable, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("frozen", [(0, 1), (2,)])
def test_inputs_that_need_no_gradient(frozen: tuple[int, ...]) -> None:
    """Oracle: the gradients where all inputs need one, to the bit; a sum's gradient is a single number, expanded."""
    inputs = maps(1, 2, 3)
    gradients = torch.autograd.grad(triton_attention.gather(*inputs).sum(), inputs)
    for index in frozen:
        inputs[index].requires_grad_(False)
    triton_attention.gather(*inputs).sum().backward()
    for index, tensor in enumerate(inputs):
        assert tensor.grad is None if index in frozen else torch.equal(tensor.grad, gradients[index])


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the message names what would be accepted."""
    x, projections = module_inputs((1, 4, 2, 3), depth=2)
    with pytest.raises(ValueError, match=r"takes float32, float16 or bfloat16, got torch\.float64"):
        triton_attention.attend(x.double(), projections, torch.float64)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="needs a CUDA tensor, got one on cpu; use backend=auto or fused"):
        triton_attention.attend(x.cpu(), projections, torch.float32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=r"compute capability 8\.0"):
        triton_attention.require(torch.device("cuda"), torch.float32)


class TestRealSizes:
    """On a GPU alone: tiles, padding and chunks as in training."""

    pytestmark = on_gpu

    @pytest.mark.parametrize("size", [(2, 97, 97, 64, 512), (1, 40, 200, 24, 72), (1, 129, 65, 128, 300)])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)]
    )
    def test_output_and_gradients(self, size: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
        """Oracle: the reference in float64 on the same rounded inputs; a second run gives the same bits."""
        inputs = maps(*size, dtype=dtype)
        wanted = output_and_gradients(channels_last(by_reference), exact(inputs))
        actual = output_and_gradients(triton_attention.gather, inputs)
        assert (torch.tensor(errors(actual, wanted)) / largest(wanted)).max() < tolerance
        again = output_and_gradients(triton_attention.gather, inputs)
        assert all(torch.equal(one, other) for one, other in zip(actual, again, strict=True))

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
    def test_module(self, dtype: torch.dtype, tolerance: float) -> None:
        """Oracle: the reference in float64; gradients of x and all parameters but the key's bias, which has none."""
        x, projections = module_inputs((2, 512, 97, 97), depth=64)
        inputs = [x.detach().to(memory_format=torch.channels_last).requires_grad_(), *projections]
        results = [
            output_and_gradients(lambda x, *p, run=run, dtype=dtype: run(x, Projections(*p), dtype), leaves)
            for run, dtype, leaves in (
                (triton_attention.attend, dtype, inputs),
                (reference.attend, torch.float64, exact(inputs)),
            )
        ]
        actual, wanted = ([result for index, result in enumerate(both) if index != 5] for both in results)
        assert (torch.tensor(errors(actual, wanted)) / largest(wanted)).max() < tolerance
