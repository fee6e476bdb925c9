"""The benchmark of training: both loops train alike, and the rows keep to the tool's rules."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ccnet.benchmarks import training
from ccnet.benchmarks.measure import Row
from ccnet.benchmarks.training import BARE, PLAIN, STEPS, bare_loop, build_run, rows, watched_loop
from ccnet.config import compose_config
from ccnet.schema import RunConfig
from ccnet.training.log import RunLog
from ccnet.training.milestones import Milestones
from ccnet.training.trainer import Trainer

SMALL = ["augmentation.crop_size=[32,32]", "trainer.batch_size=2", "head.channels=16", "head.dropout=0.0",
         "head.decoder_channels=[16,16]", "trainer.log_every=3"]  # fmt: skip


@pytest.fixture
def config() -> RunConfig:
    """The default run at a size that takes no time, without dropout, whose seeds are the trainer's own."""
    return compose_config(SMALL)


def test_both_loops_do_the_same_work(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the bare loop's weights after two calls; to rounding, since ours sums other terms the same way."""
    models = []
    build_model = training.build.build_model
    monkeypatch.setattr(
        training.build, "build_model", lambda *a, **k: models.append(build_model(*a, **k)) or models[-1]
    )
    # The schedule's length is the run's in both.
    monkeypatch.setattr(training, "NEVER", config.trainer.max_steps)
    with watched_loop(config, "cpu") as ours:
        theirs = bare_loop(config, "cpu")
        for _ in range(2):
            ours()
            theirs()
    torch.testing.assert_close(*(model.state_dict() for model in models))
    assert int(models[0].state_dict()["backbone.features.0.1.num_batches_tracked"]) == 2 * STEPS


def test_our_loop_is_watched_as_in_a_run(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the calls of everything that a session hands in, once a step, and the rows at their interval."""
    seen: list[str] = []
    for watcher in (RunLog, Milestones):
        original: Callable[..., None] = watcher.__call__

        def count(self: object, result: object, original: Callable[..., None] = original) -> None:
            seen.append(type(self).__name__)
            original(self, result)

        monkeypatch.setattr(watcher, "__call__", count)
    written = []
    monkeypatch.setattr(RunLog, "_write", lambda self, step, section, row: written.append(step))
    with watched_loop(config, "cpu") as ours:
        ours()
        ours()
    assert seen == ["RunLog", "Milestones"] * 2 * STEPS
    assert written == [3, 6]


def test_switches_reach_the_loop(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the trainers that are made, by their attributes."""
    made: list[tuple[object, object, bool]] = []

    def remember(trainer: Trainer, batches: object) -> None:
        compiled = isinstance(trainer.model, torch._dynamo.OptimizedModule)
        made.append((trainer.dtype, trainer.memory_format, compiled))

    monkeypatch.setattr(Trainer, "fit", remember)
    monkeypatch.setattr(training, "interleaved", lambda calls, *_, **__: [call() for call in calls.values()] and {})
    monkeypatch.setattr(training, "compare", lambda *_: [])
    list(training.switch_rows("case", config, "cpu", 0.0, training.SWITCHES))
    nchw, nhwc = torch.contiguous_format, torch.channels_last
    bf16 = torch.bfloat16
    plain, compiled = (None, nchw, False), (None, nchw, True)
    assert made == [plain, (None, nhwc, False), (bf16, nchw, False), (bf16, nhwc, False), compiled]


def test_rows_keep_to_the_rules(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the list of variants and baselines; what is written is gone again."""
    monkeypatch.chdir(tmp_path)
    tiny = replace(config, trainer=replace(config.trainer, save_every=10))
    interleaved = training.interleaved
    monkeypatch.setattr(training, "interleaved", lambda calls, _, **rest: interleaved(calls, 0, max_rounds=2, **rest))
    monkeypatch.setattr(training, "STEPS", 1)
    monkeypatch.setattr(training, "compose_config", lambda: tiny)
    monkeypatch.setattr(training, "keep_freed_memory", lambda device: None)
    monkeypatch.setattr(training.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(training.torch, "compile", lambda model: model)
    monkeypatch.setattr(training.shutil, "which", lambda name: "/bin/c++" if name == "c++" else None)
    found: list[Row] = list(rows(quick=False))
    assert [(row.variant, row.baseline, row.metric) for row in found] == [
        ("ccnet", BARE, "time"),
        ("ccnet", BARE, "wall"),
        *((name, PLAIN, "time") for name in ("channels-last", "bf16", "bf16, channels-last", "compile")),
        ("a save", "10 steps", "wall"),
    ]
    assert all(row.benchmark == "training" and row.ratio > 0 for row in found)
    told = capsys.readouterr().err
    assert told.count(" images/s\n") == 5
    assert "% of the time between two" in told
    assert list(tmp_path.iterdir()) == []


def test_torch_compile_is_left_out_where_it_cannot_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the switches of the step, with and without a C++ compiler, and in the quick form; what stderr says."""

    def switches(device: str, quick: bool) -> list[str]:
        (_, step) = training.steps(device, quick)[1]
        return list(step.args[-1])  # type: ignore[attr-defined]

    monkeypatch.setattr(training.shutil, "which", lambda name: "/bin/c++" if name == "c++" else None)
    assert "compile" in switches("cpu", quick=False)
    assert "compile" not in switches("cpu", quick=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(training.shutil, "which", lambda name: None)
    assert "compile" not in switches("cpu", quick=False)
    assert capsys.readouterr().err == "no row of torch.compile: it needs a C++ compiler, and there is none\n"
    assert "compile" in switches("cuda", quick=False)


def test_a_run_in_memory_has_the_batches_of_a_call(config: RunConfig) -> None:
    """Oracle: the shapes and the layout of the loader's batches, which differ from each other."""
    made = build_run(config, "cpu")
    assert len(made.batches) == STEPS
    image, mask = made.batches[0]["image"], made.batches[0]["mask"]
    assert (image.shape, mask.shape, image.dtype, mask.dtype) == ((2, 3, 32, 32), (2, 32, 32), torch.uint8, torch.uint8)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(image, made.batches[1]["image"])
