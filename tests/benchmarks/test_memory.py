"""Memory of calls whose allocations are known."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ccnet.benchmarks.memory import can_measure_peak, peak_memory, saved_bytes

MIB = 2**20

needs_peak = pytest.mark.skipif(not can_measure_peak(), reason="peak memory of the CPU needs Linux with glibc")


def make_ones(mebibytes: int) -> Callable[[], Tensor]:
    """A call that makes one tensor, with an input beside it that does not count."""
    other = torch.ones(5 * MIB)
    return lambda: torch.ones(mebibytes * MIB // 4).mul_(other[0])


def make_chain(mebibytes: int) -> Callable[[], Tensor]:
    """A call that makes five tensors, of which at most two are alive at a time."""

    def chain() -> Tensor:
        x = torch.ones(mebibytes * MIB // 4)
        for _ in range(4):
            x = x + 1
        return x

    return chain


def make_product(size: int) -> Callable[[], Tensor]:
    """A call whose temporary (twice the result) is freed before the result is made."""
    return lambda: torch.ones(2 * size * MIB // 4).sum() + torch.ones(size * MIB // 4)


@needs_peak
@pytest.mark.parametrize(
    ("make", "expected"), [(make_ones, 64), (make_chain, 128), (make_product, 128), (make_ones, 16)]
)
def test_peak_of_known_allocations(make: Callable[[int], Callable[[], object]], expected: int) -> None:
    """Oracle: the sizes of the tensors that are alive at once, within 5 %."""
    size = expected if make is make_ones else 64
    found = peak_memory(partial(make, size), partial(make, 1))
    assert found == pytest.approx(expected * MIB, rel=0.05)


@needs_peak
@pytest.mark.long
def test_peak_agrees_with_the_allocations_that_the_profiler_records() -> None:
    """Oracle: torch.profiler's memory events, summed in their order; within 5 %."""
    call = make_layer(32)
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    events = sorted((e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"), key=start)
    held = torch.tensor([event.nbytes() for event in events]).cumsum(0)
    assert peak_memory(partial(make_layer, 32), partial(make_layer, 1)) == pytest.approx(int(held.max()), rel=0.05)


def start(event: object) -> int:
    """The time of an event."""
    return event.start_ns()  # type: ignore[attr-defined]


def make_layer(batch: int) -> Callable[[], object]:
    """Forward and backward of a convolution and a softmax."""
    layer = nn.Conv2d(16, 16, 3, padding=1)
    x = torch.ones(batch, 16, 64, 64, requires_grad=True)
    return lambda: torch.autograd.grad(layer(x).softmax(1).square().mean(), x)


@needs_peak
def test_an_error_in_the_child_arrives() -> None:
    """Oracle: the exception's type; the next measurement works."""
    with pytest.raises(RuntimeError):
        peak_memory(partial(torch.nn.functional.one_hot, torch.tensor([-1])), partial(make_ones, 1))
    assert peak_memory(partial(make_ones, 16), partial(make_ones, 1)) > 15 * MIB


def test_saved_bytes_counts_each_storage_once_without_inputs_and_parameters() -> None:
    """Oracle: by hand. exp saves its result, the product saves it twice more and x; linear saves x and the weight."""
    layer = nn.Linear(8, 8, bias=False)
    x = torch.randn(4, 8, requires_grad=True)

    def forward() -> Tensor:
        hidden = layer(x).exp()
        return (hidden * hidden.T.T * x).sum()

    hidden, product = 4 * 8 * 4, 4 * 8 * 4
    assert saved_bytes(forward, [x, *layer.parameters()]) == hidden + product
    assert saved_bytes(forward, [x]) == hidden + product + 8 * 8 * 4
    with torch.no_grad():
        assert saved_bytes(forward, []) == 0
