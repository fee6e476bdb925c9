"""The benchmark of prediction: both ways write the same, and the rows keep to the tool's rules."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ccnet.benchmarks import prediction
from ccnet.benchmarks.prediction import LOOP, OURS, USUAL, draw, ours, rows, untrained
from ccnet.benchmarks.textbook_prediction import OUR_PNG, predict_one_by_one
from ccnet.config import compose_config


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes no time."""
    config = compose_config(["backbone=patches", "head=fcn", "auxiliary_head=fcn"])
    monkeypatch.setattr(prediction, "compose_config", lambda: config)


def test_both_write_the_same_bytes(tmp_path: Path) -> None:
    """Oracle: the textbook."""
    model = untrained(tmp_path)
    paths = draw(tmp_path / "in", "JPEG", (40, 56), 3)
    ours(model, tmp_path / "in", tmp_path / "ours")
    predict_one_by_one(model.loaded.model, model.ask.inference, paths, tmp_path / "loop", model.palette, OUR_PNG)
    found, expected = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("ours", "loop")
    )
    assert found == expected
    assert len(found) == 9


@pytest.mark.parametrize("quick", [True, False])
def test_rows_keep_to_the_rules_and_leave_nothing_out(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the rules: one baseline, which is not ours; what is not a peer of it informs. All cases and metrics."""
    monkeypatch.setattr(prediction, "CASES", (("JPEG", (24, 32), 4), ("PNG", (32, 24), 8)))
    monkeypatch.setattr(prediction, "interleaved", briefly(prediction.interleaved))
    found = list(rows(quick))
    counts = (1, 2) if quick else (4, 8)
    assert {(row.case, row.variant, row.metric) for row in found} == {
        (f"{count} {case}", variant, metric)
        for count, case in zip(counts, ("JPEG images of 24x32", "PNG images of 32x24"), strict=True)
        for variant, metric in ((OURS, "wall"), (OURS, "time (cost)"), (USUAL, "wall (usual)"), (USUAL, "time (usual)"))
    }
    assert all(row.benchmark == "prediction" and row.baseline == LOOP and row.ratio > 0 for row in found)


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with as few rounds as there may be."""
    return lambda variants, seconds, **options: interleaved(variants, 0, min_rounds=1, **options)
