"""The benchmark of the evaluation: all variants count the same, and the rows keep to the tool's rules."""

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ccnet.benchmarks import evaluation
from ccnet.benchmarks.evaluation import (
    FORWARD,
    LOSS,
    OFFICIAL,
    OURS,
    OURS_OF_LOGITS,
    TEXTBOOK,
    VIEW,
    VIEWS,
    WINDOWS,
    Work,
    rows,
)
from ccnet.benchmarks.measure import Row

SIZE, CROP = (48, 96), 40
PAIRS = [(VIEW, TEXTBOOK, OURS), (LOSS, TEXTBOOK, OURS), (VIEWS, TEXTBOOK, OURS), (WINDOWS, OFFICIAL, OURS_OF_LOGITS)]


def result(variant: str, views: str, **options: Any) -> Any:
    """What a call gives that went through pickle, as it does on its way to a child process."""
    work = Work(variant, views, size=SIZE, crop=CROP, **options)
    return pickle.loads(pickle.dumps(work)).build()()


@pytest.mark.parametrize(("views", "baseline", "ours"), PAIRS)
def test_all_count_the_same(views: str, baseline: str, ours: str) -> None:
    """Oracle: the baseline's confusion matrix, but for pixels where rounding decides, and its loss."""
    theirs, own = result(baseline, views), result(ours, views)
    if views == LOSS:
        assert own[1] == pytest.approx(theirs[1], rel=1e-5)
        theirs, own = theirs[0], own[0]
    assert own.sum() == theirs.sum() > 4000
    assert (own - theirs).abs().sum() <= 4
    assert (own.sum(dim=0) > 0).sum() >= 3


def test_the_forward_passes_are_those_of_ours() -> None:
    """Oracle: the sizes of what the model is shown: three scales with mirror images, and windows."""
    shown: list[tuple[int, ...]] = []

    class Watched(evaluation.Recorded):
        def __call__(self, image: Tensor) -> Any:
            shown.append(tuple(image.shape))
            return super().__call__(image)

    for views in (VIEWS, WINDOWS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "Recorded", Watched)
            call = Work(FORWARD, views, size=SIZE, crop=CROP).build()
        before, shown[:] = shown[:], []
        call()
        assert shown == before
        shown.clear()
    assert len(before) == 2 * 4


@pytest.mark.long
def test_the_network_has_an_answer() -> None:
    """Oracle: as many pixels counted as of recorded answers."""
    assert result(OURS, VIEW, network=True).sum() == result(OURS, VIEW).sum()


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with a single round."""
    return lambda variants, seconds, **options: interleaved(variants, 0, min_rounds=1, **options)


@pytest.fixture(scope="module", params=[True, False], ids=["quick", "full"])
def found(request: pytest.FixtureRequest) -> list[Row]:
    """All rows at sizes that take no time, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work.__init__, "__defaults__", (False, "cpu", SIZE, CROP))
        for name, value in {"SIZE": SIZE, "QUICK_SIZE": SIZE, "CROP": CROP, "QUICK_CROP": CROP}.items():
            patch.setattr(evaluation, name, value)
        patch.setattr(evaluation, "network", lambda device: evaluation.Recorded(SIZE, device))
        patch.setattr(evaluation, "peak_memory", lambda *_: 1)
        patch.setattr(evaluation, "can_measure_peak", lambda device: True)
        patch.setattr(evaluation, "keep_freed_memory", lambda device: None)
        patch.setattr(evaluation, "threads", lambda count: nullcontext())
        patch.setattr(evaluation.torch.cuda, "is_available", lambda: False)
        patch.setattr(evaluation, "interleaved", briefly(evaluation.interleaved))
        return list(rows(quick=request.param))


def test_rows_keep_to_the_rules_and_leave_nothing_out(found: list[Row]) -> None:
    """Oracle: the rules: a case has one baseline, which is not ours; floors inform. What was asked for: the list."""
    assert all(row.benchmark == "evaluation" and row.ratio > 0 for row in found)
    wanted = {
        (f"{views}{windows}, {model}, image 48x96", variant, baseline, metric)
        for views, windows, baseline, ours in (
            (VIEW, "", TEXTBOOK, [OURS]),
            (LOSS, "", TEXTBOOK, [OURS]),
            (VIEWS, "", TEXTBOOK, [OURS]),
            (WINDOWS, " of 40", OFFICIAL, [OURS_OF_LOGITS, OURS]),
        )
        for model, metrics in (("logits 19x6x12", ("time", "memory")), ("network", ("time",)))
        for metric in metrics
        for variant in ours
        if model != "network" or views in (VIEWS, WINDOWS)
    }
    wanted |= {
        (f"{views}, network, image 48x96", FORWARD, baseline, "time (floor)")
        for views, baseline in ((VIEWS, TEXTBOOK), (f"{WINDOWS} of 40", OFFICIAL))
    }
    measured = [(row.case, row.variant, row.baseline, row.metric) for row in found]
    assert set(measured) == wanted
    assert len(measured) == len(wanted)


def test_the_tiny_call_is_the_same_call() -> None:
    """Oracle: it counts all pixels of a small image, windows included."""
    for views, variant in ((VIEW, OURS), (WINDOWS, OFFICIAL)):
        counts = replace(Work(variant, views)).build_tiny()()
        assert 0.9 * 64 * 128 < counts.sum() <= 64 * 128
        assert torch.is_tensor(counts)
