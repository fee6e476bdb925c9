"""What summary.json tells, and what --resume makes of it."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccnet.prediction import pipeline, summary
from ccnet.prediction.inputs import find_inputs
from ccnet.prediction.pipeline import predict_files
from ccnet.prediction.predictor import Predictor
from tests.prediction.conftest import MakePredictor
from tests.prediction.folders import files, predict, results, statuses


@pytest.fixture
def model(make: MakePredictor) -> Predictor:
    return make()


def test_resume_skips_what_the_same_model_did(
    model: Predictor, make: MakePredictor, photos: Path, tmp_path: Path
) -> None:
    """Oracle: the statuses after each change; the counts of the second call; entries of other inputs stay."""
    predict(model, photos, tmp_path / "out")
    before = files(tmp_path / "out")
    again = predict(model, photos, tmp_path / "out", resume=True)
    assert (again.exit_status(), dict(again.counts())) == (0, {"skipped": 7})
    assert again.line().startswith("7 of 7 images predicted into ")
    assert again.line().endswith("checkpoint, 7 of them before")
    third = predict(make(batch_size=3), photos, tmp_path / "out", resume=True)  # the batch changes no result
    assert dict(third.counts()) == {"skipped": 7}
    os.utime(photos / "1.png", ns=(1, 1))  # changed
    (tmp_path / "out/color/2.png.png").unlink()  # lost
    partly = predict(model, photos, tmp_path / "out", resume=True)
    assert [name for name, entry in partly.images.items() if entry["status"] == "ok"] == ["1.png", "2.png"]
    assert files(tmp_path / "out") == before
    single = predict(model, photos / "0.png", tmp_path / "out", resume=True)
    assert (dict(single.counts()), len(statuses(tmp_path / "out"))) == ({"skipped": 1}, 7)
    assert dict(predict(make(weights="others"), photos, tmp_path / "out", resume=True).counts()) == {"ok": 7}
    assert dict(predict(model, photos, tmp_path / "out").counts()) == {"ok": 7}


@pytest.mark.parametrize("options", [{"opacity": 0.5}, {"classes": [0]}, {"confidence": True}])
def test_other_settings_are_other_results(
    options: dict[str, Any], model: Predictor, photos: Path, tmp_path: Path
) -> None:
    """Oracle: all images are done again, and a third call has nothing to do."""
    predict(model, photos, tmp_path / "out")
    items = find_inputs(str(photos), tmp_path / "out")
    for expected in ("ok", "skipped"):
        done = predict_files(model, items, results(model, tmp_path / "out", **options), resume=True)
        assert dict(done.counts()) == {expected: 7}


@pytest.mark.parametrize("changed", [{"palette": [(1, 2, 3), (4, 5, 6)]}, {"class_names": ["night", "day"]}])
def test_other_classes_are_other_results(
    changed: dict[str, Any], model: Predictor, photos: Path, tmp_path: Path
) -> None:
    """Oracle: all images are done again, in the colours of now, and a third call has nothing to do."""
    predict(model, photos, tmp_path / "out")
    other = Predictor(replace(model.loaded, **changed), model.ask.inference, model.device)
    for expected in ("ok", "skipped"):
        assert dict(predict(other, photos, tmp_path / "out", resume=True).counts()) == {expected: 7}
    predict(other, photos, tmp_path / "clean")
    assert files(tmp_path / "out") == files(tmp_path / "clean")


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}', '{"images": {"0.png": 1, "1.png": {"status": []}}}'])
def test_a_damaged_summary_means_that_nothing_is_done(
    text: str, model: Predictor, photos: Path, tmp_path: Path
) -> None:
    """Oracle: the statuses."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/summary.json").write_text(text)
    assert dict(predict(model, photos, tmp_path / "out", resume=True).counts()) == {"ok": 7}


def test_a_killed_process_loses_few_statuses(
    model: Predictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the summary on the disk while the last image is written, where it is always time to write it."""
    monkeypatch.setattr(summary, "SECONDS", -1.0)
    monkeypatch.setattr(summary, "SHARE", 0)
    seen, real = [], pipeline._Writers.finish

    def finish(writers: Any) -> None:
        seen.append(statuses(tmp_path / "out"))
        real(writers)

    monkeypatch.setattr(pipeline._Writers, "finish", finish)
    predict(model, photos, tmp_path / "out", threads=1)
    assert list(seen[0].values()).count("ok") >= 4


def test_what_the_summary_tells(model: Predictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the checkpoint's hash, the file's own size, and versions."""
    predict(model, photos, tmp_path / "out")
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert told["made_with"]["weights"] == "of the first"
    assert told["counts"] == {"ok": 7}
    assert told["images"]["0.png"]["state"][0] == (photos / "0.png").stat().st_size
    assert told["images"]["0.png"]["input"] == str(photos / "0.png")
    assert {"ccnet", "torch", "numpy", "pillow", "python"} == set(told["versions"])
    assert told["seconds"] >= 0
