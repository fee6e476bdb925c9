"""The attention benchmark: its peers compute the same, and its rows keep to the rules of the tool."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ccnet.benchmarks import attention
from ccnet.benchmarks.attention import FLOOR, OURS, Work, flops, rows
from ccnet.benchmarks.attention_variants import has_mmcv, make_module
from ccnet.benchmarks.measure import Measured, Row

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning")

CONTIGUOUS, CHANNELS_LAST = torch.contiguous_format, torch.channels_last
needs_mmcv = pytest.mark.skipif(not has_mmcv(), reason='needs mmcv-lite: pip install -e ".[benchmark]"')
PEERS = ["textbook", pytest.param("mmcv", marks=needs_mmcv)]


@pytest.mark.parametrize("layout", [CONTIGUOUS, CHANNELS_LAST])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (4, 1)])
@pytest.mark.parametrize("peer", PEERS)
def test_peers_compute_what_the_reference_computes(
    peer: str, size: tuple[int, int], layout: torch.memory_format
) -> None:
    """Oracle: our reference in float64, output and gradients; all start from the same weights."""
    x = torch.randn(2, 16, *size, dtype=torch.float64).to(memory_format=layout)
    direction = torch.randn_like(x)
    ours, theirs = (outputs(make_module(name, 16).double(), x, direction) for name in ("reference", peer))
    for found, expected in zip(theirs, ours, strict=True):
        torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-10, atol=1e-10)


def outputs(module: torch.nn.Module, x: Tensor, direction: Tensor) -> list[Tensor]:
    """The output and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    y = module(x)
    names = ("query_conv", "key_conv", "value_conv", "gamma")
    parameters = sorted(module.named_parameters(), key=lambda item: names.index(item[0].partition(".")[0]))
    return [y, *torch.autograd.grad(y, [x, *(parameter for _, parameter in parameters)], direction)]


@pytest.mark.parametrize("variant", ["non-local", "non-local sdpa", "non-local textbook"])
def test_non_local_attends_to_everything(variant: str) -> None:
    """Oracle: every output position depends on every input position (a criss-cross one does not)."""
    x = torch.randn(1, 16, 3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(make_module(variant, 16)(x)[0, :, 1, 1].sum(), x)
    assert (gradient.abs().sum(1) > 0).all()


def test_the_forms_of_non_local_attention_agree() -> None:
    """Oracle: each other, with the same seeded weights; output and gradients in float64."""
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    names = ("non-local", "non-local sdpa", "non-local textbook")
    first, *others = (outputs(make_module(name, 16).double(), x, torch.ones_like(x)) for name in names)
    for other in others:
        for found, expected in zip(other, first, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def products(shape: tuple[int, int, int, int]) -> dict[str, int]:
    """Operations of criss-cross attention, two per multiply-add: projections, affinities, aggregation."""
    batch, channels, height, width = shape
    positions, depth = batch * height * width, channels // 8
    return {
        "projections": 2 * positions * channels * (channels + 2 * depth),
        "affinities": 2 * positions * depth * (height + width),
        "aggregation": 2 * positions * channels * (height + width),
    }


@pytest.mark.parametrize("variant", ["reference", "fused", "chunked", "textbook", FLOOR])
def test_operations_are_all_counted(variant: str) -> None:
    """Oracle: the formula; backward takes twice as many, and the floor makes the affinities anew for it."""
    shape = (2, 16, 5, 7)
    forward = products(shape)
    assert flops(Work(variant, shape)).value == sum(forward.values())
    if variant == FLOOR:
        assert flops(Work(FLOOR, shape, backward=True)).value == 3 * sum(forward.values()) + forward["affinities"]
    else:
        assert flops(Work(variant, shape, loops=3)).value == 3 * sum(forward.values())


def test_recurrence_applies_the_same_module_again() -> None:
    """Oracle: the module, called twice."""
    forward, (x, *_) = Work("reference", (1, 16, 3, 4), loops=2).build_forward()
    module = make_module("reference", 16)
    torch.testing.assert_close(forward(), module(module(x)))


def test_work_reaches_a_child_process_and_measures_what_it_says() -> None:
    """Oracle: pickle; the gradient's count, input and seven parameters; no graph where nothing is differentiated."""
    work = pickle.loads(pickle.dumps(Work("textbook", (1, 16, 3, 4), backward=True)))
    gradients = work.build()()
    assert len(gradients) == 1 + 7
    assert gradients[0].shape == work.shape
    assert not replace(work, backward=False).build()().requires_grad
    assert str(work) == "1x16x3x4 forward+backward"


@pytest.mark.parametrize(
    ("size", "backward", "expected"),
    [
        ((2, 64, 97, 97), True, ["sparse", "non-local"]),
        ((1, 64, 128, 256), False, ["sparse", "non-local sdpa"]),
        ((1, 64, 128, 256), True, ["sparse"]),
    ],
)
def test_non_local_attention_is_left_out_where_it_does_not_fit(
    size: attention.Shape, backward: bool, expected: list[str]
) -> None:
    """Oracle: by hand; maps of 0.66 GiB and of 4 GiB."""
    assert attention.slow(Work("auto", size, backward)) == expected


@pytest.fixture(scope="module")
def tiny() -> Iterator[pytest.MonkeyPatch]:
    """The benchmark at sizes that take no time, on one thread, with peaks that nobody measures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "SHAPES", [(1, 16, 4, 5), (2, 8, 3, 2), (1, 8, 1, 4), (1, 8, 3, 3)])
        patch.setattr(attention, "RCCA_SHAPE", (1, 16, 3, 4))
        patch.setattr(attention, "peak", lambda work: Measured(1.0))
        patch.setattr(attention, "can_measure_peak", lambda device="cpu": True)
        patch.setattr(attention, "threads", lambda count: nullcontext())
        patch.setattr(attention.shutil, "which", lambda name: None)
        patch.setattr(attention.torch.cuda, "is_available", lambda: False)
        patch.setattr(attention, "interleaved", briefly(attention.interleaved))
        yield patch


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with as few rounds as there may be."""
    return lambda variants, seconds, **options: interleaved(variants, seconds=0, **options)


@pytest.fixture(scope="module")
def quick(tiny: pytest.MonkeyPatch) -> list[Row]:
    """The rows of --quick."""
    return list(rows(quick=True))


@pytest.fixture(scope="module")
def full(tiny: pytest.MonkeyPatch) -> list[Row]:
    """All rows."""
    return list(rows(quick=False))


@pytest.mark.parametrize("which", ["quick", "full"])
def test_rows_keep_to_the_rules(which: str, request: pytest.FixtureRequest) -> None:
    """Oracle: the rules: in a case, measured rows have one baseline, which is not ours, and their variants are ours."""
    found: list[Row] = request.getfixturevalue(which)
    ours = {*OURS, "chunked", "triton"}
    cases: dict[str, set[str]] = {}
    for row in found:
        assert row.benchmark == "attention"
        assert row.ratio > 0
        if row.metric in ("time", "memory"):
            assert row.variant in ours
            assert row.baseline not in ours
            cases.setdefault(row.case, set()).add(row.baseline)
    assert all(len(baselines) == 1 for baselines in cases.values())
    assert len({(row.case, row.variant, row.baseline, row.metric) for row in found}) == len(found)


def test_everything_that_was_asked_for_is_measured(full: list[Row]) -> None:
    """Oracle: the list of shapes, directions, threads and metrics."""
    found = {(row.case, row.variant, row.metric) for row in full}
    for shape in ("1x16x4x5", "2x8x3x2", "1x8x1x4", "1x8x3x3"):
        for direction in ("forward", "forward+backward"):
            for threads in ("1 thread", "2 threads"):
                case = f"{shape} {direction}, {threads}"
                for variant in ("auto", "reference", "fused"):
                    assert (case, variant, "time") in found
                    assert (case, variant, "wall") in found
                assert (case, "non-local", "time (peer)") in found
                assert (case, "sparse", "time (known to lose)") in found
                assert (case, FLOOR, "time (floor)") in found
                assert ((case, "chunked", "time") in found) == (direction == "forward")
            assert (f"{shape} {direction}", "auto", "memory") in found
        assert (f"{shape} forward+backward", "fused", "saved") in found
    assert ("RCCA R=2, 1x16x3x4 forward+backward", "auto", "memory") in found
    assert ("RCCA R=2, 1x16x3x4 forward", "auto", "flops") in found


@needs_mmcv
@pytest.mark.parametrize("other", ["textbook", "mmcv NCHW"])
def test_auto_is_also_held_against_others(other: str, full: list[Row]) -> None:
    """Oracle: a case of its own for each of mmcv's, with one row."""
    times = [row for row in full if row.metric == "time"]
    mmcv = [row.case for row in times if row.baseline == "mmcv" and row.variant == "auto"]
    assert [(row.case, row.variant) for row in times if row.baseline == other] == [
        (f"{case}, {other}", "auto") for case in mmcv
    ]


@pytest.mark.usefixtures("tiny")
def test_without_mmcv_the_textbook_is_the_peer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the baseline of all rows, and the command that installs mmcv."""
    monkeypatch.setattr(attention, "has_mmcv", lambda: False)
    assert {row.baseline for row in rows(quick=True)} == {"textbook"}
    assert 'pip install -e ".[benchmark]"' in capsys.readouterr().err
