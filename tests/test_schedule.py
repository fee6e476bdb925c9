"""Learning rate schedules against torch's own and closed formulas, at every step."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, PolynomialLR

from ccnet.schedule import Constant, OneCycle, Poly, WarmupCosine

BOTH = (WarmupCosine, Poly)
LINEAR = (*BOTH, Constant)

Schedule = Constant | WarmupCosine | Poly | OneCycle


def torch_factors(scheduler: type[LRScheduler], steps: int, **options: Any) -> list[float]:
    """Learning rates of torch's schedule from 1, one a step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, factors = scheduler(optimizer, **options), []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


def factors(schedule: Schedule, steps: range) -> list[float]:
    return [schedule(step) for step in steps]


@pytest.mark.parametrize("final", [0.0, 0.05])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_cosine(warmup: int, final: float) -> None:
    """Oracle: torch's CosineAnnealingLR over the steps after the warm-up, and half a cosine written out."""
    ours = factors(WarmupCosine(40, warmup, final_factor=final), range(warmup, 41))
    assert ours == pytest.approx(torch_factors(CosineAnnealingLR, 41 - warmup, T_max=40 - warmup, eta_min=final))
    middle = final + (1 - final) * (1 + math.cos(math.pi * 3 / (40 - warmup))) / 2
    assert ours[3] == pytest.approx(middle)


@pytest.mark.parametrize("warmup", [0, 1, 7])
@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_poly(warmup: int, power: float) -> None:
    """Oracle: torch's PolynomialLR over the steps after the warm-up, and the formula of the official code."""
    ours = factors(Poly(40, power, warmup), range(warmup, 41))
    assert ours == pytest.approx(torch_factors(PolynomialLR, 41 - warmup, total_iters=40 - warmup, power=power))
    assert ours[5] == pytest.approx((1 - 5 / (40 - warmup)) ** power)


def test_poly_to_an_end_value() -> None:
    """Oracle: 0.1 + 0.9 * (1 - step / max_steps) for power 1."""
    assert factors(Poly(10, 1.0, final_factor=0.1), range(11)) == pytest.approx(
        [0.1 + 0.09 * (10 - s) for s in range(11)]
    )


def test_poly_as_paddleseg_has_it() -> None:
    """Oracle: Paddle's PolynomialDecay, (lr - end) * (1 - step / steps) ** power + end, at lr 0.01 and end 1e-4."""
    rates = [0.01 * factor for factor in factors(Poly(60, 0.9, final_factor=0.01), range(61))]
    assert rates == pytest.approx([(0.01 - 1e-4) * (1 - step / 60) ** 0.9 + 1e-4 for step in range(61)])


@pytest.mark.parametrize("make", LINEAR)
@pytest.mark.parametrize("warmup_factor", [0.1, 0.001])
def test_warmup(make: type[WarmupCosine | Poly | Constant], warmup_factor: float) -> None:
    """Oracle: torch's LinearLR; begins at the given factor, rises, and is 1 at its end."""
    schedule = make(40, warmup_steps=6, warmup_factor=warmup_factor)
    ours = factors(schedule, range(7))
    assert ours == pytest.approx(torch_factors(LinearLR, 7, start_factor=warmup_factor, total_iters=6))
    assert ours[0] == warmup_factor
    assert ours[6] == 1
    assert all(a < b for a, b in pairwise(ours))


@pytest.mark.parametrize("make", BOTH)
def test_decay_falls_to_the_end_value(make: type[WarmupCosine | Poly]) -> None:
    """Oracle: strictly falling after the warm-up; the end value at max_steps, none below."""
    ours = factors(make(40, warmup_steps=6, final_factor=0.02), range(6, 41))
    assert all(a > b for a, b in pairwise(ours))
    assert ours[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("max_steps", [10, 300])
@pytest.mark.parametrize(("warmup", "div_factor", "final_div_factor"), [(3, 25, 1e4), (1, 10, 1), (9, 100, 10)])
def test_one_cycle(max_steps: int, warmup: int, div_factor: float, final_div_factor: float) -> None:
    """Oracle: torch's OneCycleLR, whose last step lies one later than ours, and whose warm-up is a share of all."""
    schedule = OneCycle(max_steps, warmup, 1 / div_factor, 1 / div_factor / final_div_factor)
    share = (warmup + 1) / (max_steps + 1)
    options = {"total_steps": max_steps + 1, "pct_start": share, "div_factor": div_factor}
    oracle = torch_factors(
        OneCycleLR, max_steps, max_lr=1.0, final_div_factor=final_div_factor, cycle_momentum=False, **options
    )
    assert factors(schedule, range(max_steps)) == pytest.approx(oracle, rel=1e-9)


def test_one_cycle_goes_up_and_down_again() -> None:
    """Oracle: the half-way points of both cosines, by hand; without a warm-up the first step is the highest."""
    ours = factors(OneCycle(40, 10, warmup_factor=0.2, final_factor=0.1), range(41))
    assert (ours[0], ours[10]) == (pytest.approx(0.2), 1)
    assert [ours[5], ours[25], ours[40]] == pytest.approx([(0.2 + 1) / 2, (1 + 0.1) / 2, 0.1])
    assert OneCycle(40, 0)(0) == 1


@pytest.mark.parametrize("warmup", [0, 6])
def test_constant(warmup: int) -> None:
    """Oracle: exactly 1 from the end of the warm-up on, at every step."""
    assert set(factors(Constant(40, warmup), range(warmup, 41))) == {1.0}


@pytest.mark.parametrize("make", [*LINEAR, OneCycle])
@pytest.mark.parametrize("warmup", [10, 11, -1])
def test_warmup_beyond_the_run(make: type[Schedule], warmup: int) -> None:
    """Oracle: the documented ValueError with the range that is allowed."""
    with pytest.raises(ValueError, match=rf"warmup_steps must lie in 0\.\.9 .* got {warmup}"):
        make(10, warmup_steps=warmup)
