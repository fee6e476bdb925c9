"""Run folders and where checkpoints are found."""

from pathlib import Path

import pytest

from ccnet import run
from ccnet.checkpoint import save
from ccnet.config import RunConfig, compose_config
from ccnet.errors import CheckpointError, ConfigError
from tests.test_checkpoint import trained


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """The default run in a temporary folder."""
    return compose_config([f"runs_dir={tmp_path / 'runs'}"])


def test_a_run_is_recorded_and_is_the_latest(config: RunConfig, tmp_path: Path) -> None:
    """Oracle: the files a run folder must have."""
    folder = run.open_run(config)
    run.write_run(folder, config, "cpu")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "environment.json"}
    assert (tmp_path / "runs" / "latest").read_text() == "streets_mobilenetv3\n"
    assert run.open_run(config) == folder


def test_another_run_is_never_overwritten(config: RunConfig, tmp_path: Path) -> None:
    """Oracle: the differing key in the message; keys that change no result are free."""
    folder = run.open_run(config)
    run.write_run(folder, config, "cpu")
    runs = f"runs_dir={tmp_path / 'runs'}"
    with pytest.raises(
        ConfigError,
        match=r"holds another run \(optimizer.lr: .* -> 0.5\); give this one a name=.* or delete that one",
    ):
        run.open_run(compose_config([runs, "optimizer.lr=0.5"]))
    assert run.open_run(compose_config([runs, "trainer.workers=3", "trainer.log_every=7"])) == folder


def test_a_folder_of_something_else_is_left_alone(config: RunConfig) -> None:
    """Oracle: the refusal."""
    folder = Path(config.runs_dir) / config.name
    folder.mkdir(parents=True)
    (folder / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no run"):
        run.open_run(config)


def test_checkpoints_are_found_from_nothing_a_run_or_themselves(config: RunConfig, tmp_path: Path) -> None:
    """Oracle: the path of the best one."""
    runs = tmp_path / "runs"
    with pytest.raises(CheckpointError, match="train first"):
        run.find_checkpoint(None, str(runs))
    folder = run.open_run(config)
    run.write_run(folder, config, "cpu")
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        run.find_checkpoint(None, str(runs))
    best = save(folder / "checkpoints", *trained(), {"step": 1, "score": 0.9})
    last = save(folder / "checkpoints", *trained(), {"step": 2, "score": 0.1})
    assert run.find_checkpoint(None, str(runs)) == best
    assert run.find_checkpoint(str(runs / "latest"), str(runs)) == best
    assert run.find_checkpoint(str(folder)) == best
    assert run.find_checkpoint(str(last)) == last
    assert run.report_folder(best, "val", config) == folder / "report" / "step_0000001_val"
    augmented = compose_config(["evaluation=multi_scale_flip", "evaluation.crop_size=[8,9]"])
    assert run.report_folder(best, "val", augmented).name == "step_0000001_val_0.75_1_1.25_flip_slide8x9"
    assert run.report_folder(tmp_path / "copy", "val", config) == Path("report/copy_val")
    told = ["head.recurrence=3", "evaluation.flip=true", "dataset.root=/x"]
    assert run.report_folder(tmp_path / "copy", "val", config, told) == Path("report/copy_val_head.recurrence=3")
    with pytest.raises(CheckpointError, match="no such run or checkpoint"):
        run.find_checkpoint(str(tmp_path / "gone"))
