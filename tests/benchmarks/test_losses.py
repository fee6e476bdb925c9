"""The benchmark of the losses: the official code computes what ours does, and the rows keep to the tool's rules."""

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ccnet.benchmarks import losses
from ccnet.benchmarks.losses import OTHER_CLASSES, OURS, PORT, TORCH, Work, rows
from ccnet.benchmarks.measure import Row
from ccnet.benchmarks.official_ohem import official_mask, official_ohem
from ccnet.config_errors import CONFIG_DIR
from ccnet.losses.ohem import OHEM


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 100), (0.2, 3000), (0.2, 0), (0.7, 10**6)])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_the_official_code_is_our_ohem_of_stride_eight(threshold: float, min_kept: int, ignored: float) -> None:
    """Oracle: OHEM, which its own test holds against the formula: value, gradient and kept pixels."""
    logits, mask = torch.randn(2, 5, 65, 73, dtype=torch.float64, requires_grad=True), torch.randint(0, 5, (2, 65, 73))
    mask[torch.rand(mask.shape) < ignored] = 255
    ours = OHEM(threshold, min_kept, threshold_stride=8)
    values = official_ohem(logits, mask, threshold, min_kept), ours(logits, mask)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in values))
    pixel_losses = F.cross_entropy(logits, mask, ignore_index=255, reduction="none")
    assert torch.equal(official_mask(logits, mask, threshold, min_kept) != 255, ours.kept(pixel_losses, logits, mask))


def test_every_loss_that_yaml_offers_is_measured() -> None:
    """Oracle: the folder."""
    assert {*OURS, *OTHER_CLASSES} == {path.stem for path in (CONFIG_DIR / "loss").glob("*.yaml")}


@pytest.mark.parametrize("variant", OURS)
def test_work_reaches_a_child_process_and_measures_what_it_says(variant: str) -> None:
    """Oracle: pickle; the loss of the YAML, whose gradient reaches the small logits, and features if it uses them."""
    work = pickle.loads(pickle.dumps(replace(Work(variant), small=5, large=33)))
    gradients = work.build()()
    sizes = [(2, 19, 5, 5), (2, 16, 5, 5)] if "consistency" in variant else [(2, 19, 5, 5)]
    assert [gradient.shape for gradient in gradients] == sizes
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_our_cross_entropy_is_the_baseline() -> None:
    """Oracle: F.cross_entropy on the upsampled logits: the same gradient, so that both do the same work."""
    ours, torchs = (replace(Work(name), small=5, large=33).build()() for name in ("cross_entropy", TORCH))
    torch.testing.assert_close(ours, torchs)


@pytest.fixture(scope="module", params=[True, False], ids=["quick", "full"])
def found(request: pytest.FixtureRequest) -> list[Row]:
    """All rows at sizes that take no time, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.Work.__init__, "__defaults__", ("cpu", 5, 33))
        patch.setattr(losses, "peak_memory", lambda *_: 1)
        patch.setattr(losses, "can_measure_peak", lambda device: True)
        patch.setattr(losses, "threads", lambda count: nullcontext())
        patch.setattr(losses.torch.cuda, "is_available", lambda: False)
        patch.setattr(losses, "interleaved", briefly(losses.interleaved))
        return list(rows(quick=request.param))


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with as few rounds as there may be."""
    return lambda variants, seconds, **options: interleaved(variants, seconds=0, **options)


def test_rows_keep_to_the_rules(found: list[Row]) -> None:
    """Oracle: the rules: a case has one baseline, which is not ours, and its variants are ours."""
    cases: dict[str, set[str]] = {}
    for row in found:
        assert row.benchmark == "losses"
        assert row.metric in ("time", "memory")
        assert row.ratio > 0
        assert row.variant in OURS
        cases.setdefault(row.case, set()).add(row.baseline)
    assert all(len(baselines) == 1 and baselines <= {TORCH, PORT} for baselines in cases.values())
    assert len({(row.case, row.variant, row.metric) for row in found}) == len(found)


def test_everything_that_was_asked_for_is_measured(found: list[Row]) -> None:
    """Oracle: the list of losses and metrics."""
    measured = {(row.case.removesuffix(", 1 thread"), row.variant, row.metric) for row in found}
    for variant in OURS:
        for metric in ("time", "memory"):
            assert ("2x19x5x5 to 33x33 forward+backward", variant, metric) in measured
    for work in ("forward+backward", "choice of pixels"):
        for variant in ("ohem", "ohem_official"):
            assert (f"OHEM 2x19x5x5 to 33x33 {work}", variant, "time") in measured
