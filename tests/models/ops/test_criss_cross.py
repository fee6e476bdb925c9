"""Criss-cross attention, every backend, against Eq. 1-2 of the paper written as a loop over the positions."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ccnet.models.layers.criss_cross_attention import CrissCrossAttention
from ccnet.models.ops.criss_cross import Backend, criss_cross_attention, sparse
from ccnet.models.ops.criss_cross.composition import compose
from ccnet.models.ops.criss_cross.fused import attend_by_rows
from ccnet.models.ops.criss_cross.projections import Projections
from ccnet.models.ops.criss_cross.reference import affinity

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
DIFFERENTIABLE: list[Backend] = ["reference", "fused", "sparse"]
BACKENDS: list[Backend] = ["auto", *DIFFERENTIABLE, "chunked"]
LAYOUT = st.sampled_from(["contiguous_format", "channels_last"])


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Each position by itself: its row, then its column without itself, one softmax over the H + W - 1 products."""
    height, width = query.shape[-2:]
    gathered = []
    for y in range(height):
        for x in range(width):
            cross = [(y, j) for j in range(width)] + [(i, x) for i in range(height) if i != y]
            assert len(cross) == height + width - 1
            rows, columns = zip(*cross, strict=True)
            logits = torch.einsum("bd,bdk->bk", query[:, :, y, x], key[:, :, rows, columns])
            gathered.append(torch.einsum("bk,bck->bc", logits.softmax(-1), value[:, :, rows, columns]))
    return torch.stack(gathered, dim=-1).unflatten(-1, (height, width))


def expected_of(x: Tensor, p: Projections) -> Tensor:
    """x + gamma * the naive attention of the three projections."""

    def conv(weight: Tensor, bias: Tensor) -> Tensor:
        return torch.einsum("oi,bihw->bohw", weight, x) + bias[:, None, None]

    attended = naive(
        conv(p.query_weight, p.query_bias), conv(p.key_weight, p.key_bias), conv(p.value_weight, p.value_bias)
    )
    return x + p.gamma * attended


def inputs(
    batch: int, height: int, width: int, depth: int = 3, channels: int = 4, layout: str = "contiguous_format"
) -> tuple[Tensor, Projections]:
    """An x in the given memory format, and projections, all leaves in float64."""
    generator = torch.Generator().manual_seed(height * 100 + width)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = leaf(batch, channels, height, width).to(memory_format=getattr(torch, layout)).requires_grad_()
    shapes = [(depth, channels), (depth,), (depth, channels), (depth,), (channels, channels), (channels,), (1,)]
    return x, Projections(*(leaf(*shape).requires_grad_() for shape in shapes))


def selecting(depth: int, channels: int, dtype: torch.dtype = torch.float32) -> Projections:
    """Projections that read query, key and value off the channels of x as they are; gamma is 1."""
    total = 2 * depth + channels
    eye = torch.eye(total, dtype=dtype)
    nothing = torch.zeros(depth, dtype=dtype)
    return Projections(
        eye[:depth], nothing, eye[depth : 2 * depth], nothing, eye, torch.zeros(total, dtype=dtype), eye[0, :1]
    )


def assert_gradients(out: Tensor, expected: Tensor, ours: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    direction = torch.randn_like(expected)
    for gradient, wanted in zip(
        torch.autograd.grad(out, ours, direction), torch.autograd.grad(expected, reference, direction), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", DIFFERENTIABLE)
@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 2), height=st.integers(1, 6), width=st.integers(1, 6), layout=LAYOUT)
def test_output_and_gradients_at_any_size(backend: Backend, batch: int, height: int, width: int, layout: str) -> None:
    """Oracle: the naive loop in float64; the gradients are autograd's through that loop."""
    x, projections = inputs(batch, height, width, layout=layout)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *projections)]
    out, expected = criss_cross_attention(x, projections, backend), expected_of(leaves[0], Projections(*leaves[1:]))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert_gradients(out, expected, (x, *projections), leaves)


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 3), height=st.integers(1, 7), width=st.integers(1, 5), rows=st.integers(1, 9), layout=LAYOUT
)
def test_inference_by_any_number_of_rows(batch: int, height: int, width: int, rows: int, layout: str) -> None:
    """Oracle: the naive loop in float64."""
    x, projections = inputs(batch, height, width, layout=layout)
    with torch.no_grad():
        out = attend_by_rows(x, projections, torch.float64, rows)
        torch.testing.assert_close(out, expected_of(x, projections), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(2, 5, 3), (1, 1, 4), (1, 4, 1), (1, 1, 1), (2, 70, 2), (3, 2, 70)])
def test_sizes_that_must_not_be_left_to_chance(backend: Backend, size: tuple[int, int, int]) -> None:
    """Oracle: the naive loop; H != W, a row, a column, a single position, and more rows than are taken at a time."""
    x, projections = inputs(*size)
    with torch.no_grad():
        out = criss_cross_attention(x, projections, backend)
        torch.testing.assert_close(out, expected_of(x, projections), rtol=0, atol=1e-12)


def test_images_too_large_to_be_taken_together() -> None:
    """Oracle: one image at a time; a batch of 3 x 64 x 80 x 80 is taken in parts, one of 3 x 4 x 3 x 3 at once."""
    for channels, side in ((64, 80), (4, 3)):
        x, projections = inputs(3, side, side, channels=channels)
        projections = Projections(*(0.1 * tensor for tensor in projections))
        (whole,) = torch.autograd.grad(criss_cross_attention(x, projections, "fused").square().sum(), x)
        for i in range(3):
            one = x[i : i + 1].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(criss_cross_attention(one, projections, "fused").square().sum(), one)
            torch.testing.assert_close(whole[i : i + 1], gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", DIFFERENTIABLE)
def test_gradcheck_twice(backend: Backend) -> None:
    """Oracle: finite differences in float64, of the output and of its gradient."""
    x, projections = inputs(2, 2, 3, depth=2, channels=2)

    def attend(x: Tensor, *tensors: Tensor) -> Tensor:
        return criss_cross_attention(x, Projections(*tensors), backend)

    assert torch.autograd.gradcheck(attend, (x, *projections))
    assert torch.autograd.gradgradcheck(attend, (x, *projections), atol=1e-4)


@pytest.mark.parametrize("backend", DIFFERENTIABLE)
def test_a_differentiable_gradient_is_the_same_gradient(backend: Backend) -> None:
    """Oracle: the plain gradient; over two loops x itself depends on the parameters, whose share must count once."""
    x, projections = inputs(1, 3, 4)

    def gradients(create_graph: bool) -> tuple[Tensor, ...]:
        out = criss_cross_attention(criss_cross_attention(x, projections, backend), projections, backend)
        return torch.autograd.grad(out.square().sum(), (x, *projections), create_graph=create_graph)

    for again, plain in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("wanted", [[0], [1, 3], [5, 7], [2, 4, 6]])
def test_gradients_of_some_inputs_alone(wanted: list[int]) -> None:
    """Oracle: the same gradients among those of all inputs; once plain, once differentiable again."""
    x, projections = inputs(1, 3, 4)
    tensors = [x, *projections]
    everything = torch.autograd.grad(criss_cross_attention(x, projections, "fused").square().sum(), tensors)
    some = [tensor.detach().requires_grad_(i in wanted) for i, tensor in enumerate(tensors)]
    for again in (False, True):
        out = criss_cross_attention(some[0], Projections(*some[1:]), "fused").square().sum()
        gradients = torch.autograd.grad(out, [some[i] for i in wanted], create_graph=again)
        for i, gradient in zip(wanted, gradients, strict=True):
            torch.testing.assert_close(gradient, everything[i], rtol=1e-10, atol=1e-10)


def test_the_gradient_of_the_keys_bias_is_noise() -> None:
    """Oracle: softmax is blind to what all logits of a position share; the query's bias shows the scale."""
    x, projections = inputs(2, 5, 6)
    for backend in DIFFERENTIABLE:
        out = criss_cross_attention(x, projections, backend).square().sum()
        of_query, of_key = torch.autograd.grad(out, [projections.query_bias, projections.key_bias])
        assert of_key.abs().max() < 1e-12 * of_query.abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_equal_logits_of_any_size_give_the_mean_of_the_cross(backend: Backend, sign: int) -> None:
    """Oracle: the mean over the H + W - 1 positions by hand; products of +-1e6, beyond any finite mask value."""
    value, same = torch.randn(1, 2, 4, 3), torch.full((1, 1, 4, 3), 1e3)
    crosses = value.sum(2, keepdim=True) + value.sum(3, keepdim=True) - value
    out = criss_cross_attention(torch.cat([same, sign * same, value], dim=1), selecting(1, 2), backend)
    torch.testing.assert_close(out[:, 2:] - value, crosses / (4 + 3 - 1))


def with_large_logits(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """An x of query, key and value, products up to 60, and what attention adds to the value in float64."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 5, dtype=torch.float64, generator=generator)
    largest = torch.einsum("bdij,bdkl->bijkl", query, key).abs().max()
    factor = (60 / largest).sqrt()
    rounded = [tensor.to(dtype) for tensor in (factor * query, factor * key, value)]
    return torch.cat(rounded, dim=1), naive(*(tensor.double() for tensor in rounded))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_with_large_logits(backend: Backend, dtype: torch.dtype, autocast: bool) -> None:
    """Oracle: float64 on the same rounded inputs; products near 60, which half precision would round by up to 0.25.

    Under autocast x stays in float32, and what it adds to x must not be rounded with it.
    """
    x, expected = with_large_logits(dtype)
    given = torch.float32 if autocast else dtype
    with torch.autocast("cpu", dtype, enabled=autocast):
        out = criss_cross_attention(x.to(given), selecting(4, 4, given), backend)
    assert out.dtype == given
    tolerance = 1e-2 * (expected.abs().max() + (0 if autocast else x[:, 8:].double().abs().max()))
    assert (out[:, 8:].double() - x[:, 8:].double() - expected).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_under_autocast(dtype: torch.dtype) -> None:
    """Oracle: float64, within the precision of the format; the backward pass called inside autocast and outside."""
    x, projections = inputs(2, 6, 5, channels=8)
    projections = Projections(*(0.3 * tensor for tensor in projections))  # products of a size that half precision holds
    wanted = torch.autograd.grad(criss_cross_attention(x, projections).square().mean(), [x, *projections])
    single = [tensor.detach().float().requires_grad_() for tensor in (x, *projections)]
    for inside in (False, True):
        with torch.autocast("cpu", dtype):
            out = criss_cross_attention(single[0], Projections(*single[1:])).square().mean()
        with torch.autocast("cpu", dtype, enabled=inside):
            gradients = torch.autograd.grad(out, single)
        for gradient, exact in zip(gradients, wanted, strict=True):
            assert gradient.dtype == torch.float32
            assert (gradient - exact).abs().max() < 0.03 * max(float(exact.abs().max()), 0.1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_gamma_zero_changes_no_bit(backend: Backend, layout: str) -> None:
    """Oracle: x itself, under autocast too."""
    x, projections = inputs(2, 5, 4, layout=layout)
    x = x.detach().float()
    still = Projections(*(tensor.detach().float() for tensor in projections[:-1]), torch.zeros(1))
    assert torch.equal(criss_cross_attention(x, still, backend), x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(criss_cross_attention(x, still, backend), x)


def test_fused_keeps_little_for_the_gradient() -> None:
    """Oracle: x, query and key, and the aggregated x by their sizes; the attention of H + W numbers is not among it."""
    batch, channels, depth, height, width = 2, 16, 2, 9, 11
    x, projections = inputs(batch, height, width, depth, channels, layout="channels_last")
    sizes: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.update({t.data_ptr(): t.numel()}), lambda _: None):
        criss_cross_attention(x, projections, "fused")
    for tensor in projections:
        sizes.pop(tensor.data_ptr(), None)
    assert sum(sizes.values()) == batch * height * width * (2 * channels + 2 * depth)


def test_captured_as_a_graph() -> None:
    """Oracle: the same function outside of torch.compile and torch.export; the graph is whole."""
    x, projections = inputs(1, 4, 5)
    expected = expected_of(x, projections)
    compiled = torch.compile(criss_cross_attention, fullgraph=True, backend="aot_eager")(x, projections)
    torch.testing.assert_close(compiled, expected)
    assert_gradients(compiled, expected, (x, *projections), (x, *projections))

    module = CrissCrossAttention(8).double()
    torch.nn.init.constant_(module.gamma, 0.5)
    size = {"x_BCHW": {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}}
    example, other = torch.randn(1, 8, 4, 5, dtype=torch.float64), torch.randn(1, 8, 7, 3, dtype=torch.float64)
    exported = torch.export.export(module, (example,), dynamic_shapes=size).module()
    torch.testing.assert_close(exported(other), expected_of(other, module.projections()))


def test_chunked_where_a_gradient_is_wanted() -> None:
    """Oracle: the naive loop and autograd through it; more rows than a chunk has."""
    x, projections = inputs(1, 18, 2)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, *projections)]
    out, expected = criss_cross_attention(x, projections, "chunked"), expected_of(leaves[0], Projections(*leaves[1:]))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert_gradients(out, expected, (x, *projections), leaves)


@pytest.mark.parametrize(
    ("x", "backend", "message"),
    [
        (torch.zeros(1, 4, 3, 3, dtype=torch.int64), "auto", r"floating-point .* got torch.int64 \(1, 4, 3, 3\)"),
        (torch.zeros(1, 4, 0, 3), "auto", r"non-empty .* got torch.float32 \(1, 4, 0, 3\)"),
        (torch.zeros(0, 4, 3, 3), "fused", "non-empty"),
        (torch.zeros(4, 3, 3), "reference", r"\(B, C, H, W\), got torch.float32 \(4, 3, 3\)"),
        (torch.zeros(1, 5, 3, 3), "sparse", "x has 5 channels, the projections take 4"),
        (torch.zeros(1, 4, 3, 3), "cuda", "backend must be one of auto, reference, fused, .* got cuda"),
        (torch.zeros(1, 4, 3, 3), "triton", "triton needs a CUDA tensor, got one on cpu"),
    ],
)
def test_bad_input(x: Tensor, backend: Backend, message: str) -> None:
    """Oracle: the documented ValueErrors, which say what was given and what is accepted."""
    pytest.importorskip("triton", reason="Triton is not installed") if backend == "triton" else None
    _, projections = inputs(1, 3, 3)
    with pytest.raises(ValueError, match=message):
        criss_cross_attention(x, projections, backend)


@settings(deadline=None)
@given(height=st.integers(1, 7), width=st.integers(1, 7))
def test_pattern_of_the_sparse_matrix(height: int, width: int) -> None:
    """Oracle: the definition of a cross, position by position; crosses are mutual."""
    positions = [(y, x) for y in range(height) for x in range(width)]
    expected = [
        [index for index, (y, x) in enumerate(positions) if y == row or x == column] for row, column in positions
    ]
    found = sparse.pattern(height, width).view(height * width, -1)
    assert found.tolist() == expected
    entries = torch.randn(found.numel(), dtype=torch.float64)
    dense = torch.zeros(height * width, height * width, dtype=torch.float64).scatter(1, found, entries.view_as(found))
    transposed = sparse.transposed(entries, found.flatten()).view_as(found)
    assert torch.equal(dense.t().gather(1, found), transposed)


def dense_attention(query: Tensor, key: Tensor) -> Tensor:
    """(B, H W, H W) of the reference's attention, own position in the column left out."""
    attention = affinity(query, key)
    batch, height, width, _ = attention.shape
    dense = torch.zeros(batch, height, width, height, width, dtype=attention.dtype)
    for y in range(height):
        for x in range(width):
            dense[:, y, x, :, x] += attention[:, y, x, :height]
            dense[:, y, x, y, :] += attention[:, y, x, height:]
    return dense.flatten(3).flatten(1, 2)


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_composed_attention(loops: int) -> None:
    """Oracle: the dense matrices multiplied; the row of every position."""
    height, width = 3, 4
    pairs = torch.randn(loops, 2, 2, 5, height, width, dtype=torch.float64)
    matrix = torch.eye(height * width, dtype=torch.float64)
    for query, key in pairs:
        matrix = dense_attention(query, key) @ matrix
    for position in range(height * width):
        taken = compose([affinity(query, key) for query, key in pairs], *divmod(position, width))
        torch.testing.assert_close(taken.flatten(1), matrix[:, position])
        torch.testing.assert_close(taken.sum((1, 2)), torch.ones(2, dtype=torch.float64))
        assert bool((taken > 0).all()) == (loops > 1)


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (3, 0), (0, 4)])
def test_positions_outside(row: int, column: int) -> None:
    """Oracle: the documented error."""
    with pytest.raises(IndexError, match=rf"position \({row}, {column}\) lies outside the map of 3 x 4"):
        compose([affinity(*torch.randn(2, 1, 5, 3, 4))], row, column)
