"""Run folders and where checkpoints are found."""

import os
from pathlib import Path

import pytest

from ccnet import run
from ccnet.checkpoint import save
from ccnet.config import compose_config
from ccnet.errors import CheckpointError, ConfigError
from ccnet.schema import RunConfig
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
    assert run.open_run(compose_config([runs, "optimizer.lr=0.5"])) == folder  # nothing is lost where nothing is saved
    (folder / "checkpoints" / "step_0000001").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds another run \(optimizer.lr: .* -> 0.5\); give this one a name="):
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
    assert run.report_folder(tmp_path / "copy", "val", config) == tmp_path / "report" / "copy_val"
    told = ["head.recurrence=3", "evaluation.flip=true", "dataset.root=/x"]
    named = run.report_folder(tmp_path / "copy", "val", config, told)
    assert named == tmp_path / "report" / "copy_val_head.recurrence=3_dataset.root=-x"
    long = [f"dataset.root=/{letter * 300}" for letter in "ab"]
    first, second = (run.report_folder(tmp_path / "copy", "val", config, [word]).name for word in long)
    assert first != second
    assert len(first) == len(second) == run.LONGEST_NAME
    with pytest.raises(CheckpointError, match="no such run or checkpoint"):
        run.find_checkpoint(str(tmp_path / "gone"))


def test_a_longer_run_goes_on_and_a_shorter_one_does_not(
    config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the log's line; the refusal; another key beside it is still refused, and alone."""
    folder = run.open_run(config)
    run.write_run(folder, config, "cpu")
    (folder / "checkpoints" / "step_0000001").mkdir(parents=True)
    runs = f"runs_dir={tmp_path / 'runs'}"
    with caplog.at_level("INFO", "ccnet"):
        run.open_run(compose_config([runs, "trainer.max_steps=900"]))
    assert "max_steps grows from 680 to 900; from here on the schedule is that of the longer run" in caplog.text
    with pytest.raises(ConfigError, match=r"another run \(trainer.max_steps: 680 -> 600\)"):
        run.open_run(compose_config([runs, "trainer.max_steps=600"]))
    with pytest.raises(ConfigError, match=r"another run \(seed: 0 -> 1\)"):
        run.open_run(compose_config([runs, "trainer.max_steps=900", "seed=1"]))


def test_one_writer_a_run(config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: the refusal, which names folder and process; the lock is no obstacle to a new run, and is free again."""
    monkeypatch.setattr(run, "WAIT_SECONDS", 0.1)
    folder = tmp_path / "runs" / config.name
    with run.only_writer(folder):
        run.write_run(run.open_run(config), config, "cpu")
        message = rf"another process \({os.getpid()} on .*\) writes into .*{config.name};"
        with pytest.raises(ConfigError, match=message), run.only_writer(folder):
            pytest.fail("two writers")
    with run.only_writer(folder):
        pass


@pytest.mark.parametrize(
    "text",
    ["a: &a [1]\nb: *a", "a: [", "- 1", "", "\t", "name: ${oc.env:HOME}", "!!python/object/apply:os.system [true]",
     "[" * 5000, "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]"],
)  # fmt: skip
def test_a_stored_configuration_is_not_trusted(text: str, config: RunConfig) -> None:
    """Oracle: the refusal."""
    folder = Path(config.runs_dir) / config.name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        run.open_run(config)


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "checkpoints"])
def test_a_link_in_a_run_folder_is_not_followed(name: str, config: RunConfig, tmp_path: Path) -> None:
    """Oracle: the refusal; what the link leads to is as it was."""
    folder = Path(config.runs_dir) / config.name
    folder.mkdir(parents=True)
    (tmp_path / "thesis.txt").write_text("mine")
    (folder / name).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(ConfigError, match=f"{name} is a link"):
        run.open_run(config)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no /dev/null here")
def test_a_folder_that_cannot_be_made_is_named() -> None:
    """Oracle: the refusal, which names folder and key."""
    with (
        pytest.raises(ConfigError, match=r"/dev/null/x cannot be written .*set runs_dir"),
        run.only_writer(Path("/dev/null/x")),
    ):
        pytest.fail("it is no folder")
