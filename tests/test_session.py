"""What a run tells about its loss, and keeps of it."""

import json
import logging
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccnet import build, build_training, checkpoint, sealed_folder, session
from ccnet.config import compose_config
from ccnet.data.class_pixels import class_pixels
from ccnet.errors import CheckpointError
from ccnet.losses.class_weights import weights_from_pixels

LOSS = [
    "loss=cross_entropy",
    "loss.terms.cross_entropy.class_weights=inverse_log",
    "+loss.terms.overlap={_target_:ccnet.losses.dice.Dice}",
    "+loss.weights.overlap=0.5",
    "loss.auxiliary.class_weights=effective_number",
    "loss.auxiliary_weight=0.4",
    "trainer.max_steps=2",
]


def test_terms_are_shown_and_class_weights_are_made_once(
    tiny_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Oracle: the terms of the configuration by name in metrics.jsonl and TensorBoard; the training set's pixels in
    the log and in the checkpoint; a run that goes on counts nothing."""
    words = [*tiny_overrides, *LOSS]
    caplog.set_level(logging.INFO, "ccnet")
    config = compose_config(words)
    folder = session.train(config, words)

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name in ("cross_entropy", "overlap", "auxiliary"):
        assert rows[0][name] > 0
        assert [event.step for event in board.Scalars(f"train/{name}")] == [1, 2]
    assert rows[0]["loss"] == pytest.approx(sum(rows[0][name] for name in ("cross_entropy", "overlap", "auxiliary")))

    pixels = class_pixels(build.build_dataset(config, "train")).tolist()
    found = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    assert found.meta["class_pixels"] == pixels
    for name, rule in (("terms.cross_entropy", "inverse_log"), ("auxiliary", "effective_number")):
        weights = " ".join(f"{weight:.3g}" for weight in weights_from_pixels(rule, pixels))  # type: ignore[arg-type]
        assert f"loss.{name}.class_weights: {weights}" in caplog.messages

    monkeypatch.setattr(build_training, "class_pixels", lambda *_, **__: pytest.fail("counted again"))
    session.train(config, words)


@pytest.mark.parametrize(
    "pixels", ["abc", {}, [1, 2], [1, 2, 3.5], [1, 2, -3], [1, 2, True], [1, 2, 10**400], [1, 2, None]]
)
def test_class_pixels_of_a_checkpoint_are_not_trusted(pixels: object, tmp_path: Path) -> None:
    """Oracle: the refusal, which names the checkpoint; whole numbers, one per class, are taken."""
    found = checkpoint.Checkpoint(tmp_path, {"class_pixels": pixels}, {}, {})
    with pytest.raises(CheckpointError, match="class_pixels must be 3 numbers of pixels"):
        found.class_pixels(3)
    assert checkpoint.Checkpoint(tmp_path, {"class_pixels": [1, 0, 3]}, {}, {}).class_pixels(3) == [
        1,
        0,
        3,
    ]
    assert checkpoint.Checkpoint(tmp_path, {}, {}, {}).class_pixels(3) is None


def test_a_longer_run_is_reported_anew(tiny_overrides: list[str]) -> None:
    """Oracle: the report's step, though the process was killed before it could write the second one."""
    words = [*tiny_overrides, "trainer.max_steps=2"]
    folder = session.train(compose_config(words), words)
    stale = (folder / "report" / "metrics.json").read_bytes()
    longer = [*tiny_overrides, "trainer.max_steps=4"]
    session.train(compose_config(longer), longer)
    (folder / "report" / "metrics.json").write_bytes(stale)
    session.train(compose_config(longer), longer)
    assert json.loads((folder / "report" / "metrics.json").read_text())["step"] == 4


def test_ranks_that_see_different_checkpoints_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the refusal, where another rank stands at step 0; alone, any step is agreed."""
    found = checkpoint.Checkpoint(tmp_path, {"step": 4, "score": None}, {}, {})
    assert session._agreed_start(found, tmp_path) == 4
    monkeypatch.setattr(session.distributed, "largest_over_ranks", lambda number: max(number, 0))
    with pytest.raises(CheckpointError, match="runs_dir must be one folder for all"):
        session._agreed_start(found, tmp_path)


def test_another_number_of_ranks_is_told(tiny_overrides: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the warning."""
    words = [*tiny_overrides, "trainer.max_steps=2"]
    folder = session.train(compose_config(words), words)
    path = folder / "checkpoints" / "step_0000002"
    meta = json.loads((path / "meta.json").read_text())
    files = {name: (path / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")}
    sealed_folder.write(path, {**files, "meta.json": json.dumps({**meta, "ranks": 2}).encode()})
    longer = [*tiny_overrides, "trainer.max_steps=3"]
    session.train(compose_config(longer), longer)
    assert "trained by 2 ranks and goes on with 1" in caplog.text


def test_latest_is_no_source(tiny_overrides: list[str]) -> None:
    """Oracle: the refusal; once this run is the latest, the same command would start from itself."""
    config = compose_config(tiny_overrides)
    words = [*tiny_overrides, f"init_from={config.runs_dir}/latest"]
    with pytest.raises(CheckpointError, match="name the run itself"):
        session.train(compose_config(words), words)
