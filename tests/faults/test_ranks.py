"""Two ranks: they agree when to stop, save once, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import distributed as dist
from torch import nn

from ccnet import build, checkpoint, distributed, restore
from ccnet.config import compose_config
from ccnet.schema import RunConfig
from ccnet.training.signals import EXIT_STATUS
from tests.faults import interruptions
from tests.faults import zygote as zygote_module
from tests.faults.interruptions import (
    Preparation,
    at,
    ends,
    on_two_ranks,
    signalled,
    wait_until,
    without_memory,
)
from tests.faults.zygote import ROOT, Victim, Zygote, outcome, run_config

# Which rank gets the signal, when, and in which step.
STOPS = [(1, "step", 2), (0, "save", 3), (0, "evaluation", 4), (1, "evaluation", 4), (1, "before save", 6)]


@pytest.fixture(scope="module")
def pair(server: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two ranks that nothing interrupts."""
    folder = tmp_path_factory.mktemp("pair")
    victims = on_two_ranks(Zygote(folder), config_of(data, folder))
    assert ends(*victims) == [0, 0], [victim.told() for victim in victims]
    return folder / "run"


def config_of(data: Path, place: Path, *overrides: str) -> RunConfig:
    """Saves at steps 3 and 6 and with the evaluations."""
    return run_config(data, place, "trainer.save_every=3", *overrides)


def same_end(run: Path, pair: Path) -> bool:
    """Which of the older checkpoints are left depends on where a run was stopped."""
    found, expected = outcome(run), outcome(pair)
    return {**found, "checkpoints": []} == {**expected, "checkpoints": []}


@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("SIGTERM", False),
        ("SIGINT", True),
        *(pytest.param(*case, marks=pytest.mark.long) for case in [("SIGUSR1", False), ("SIGTERM", True)]),
    ],
)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_signal_to_one_rank_stops_both(
    name: str, both: bool, workers: int, zygote: Zygote, data: Path, place: Path, pair: Path
) -> None:
    """Oracle: status and message on both ranks; one checkpoint of that very step, without a score; at last, the outcome
    of two ranks that nothing interrupts, to the bit."""
    config = config_of(data, place, f"trainer.workers={workers}")
    for rank, moment, step in STOPS:
        prepare: list[list[Preparation]] = [[], []]
        prepare[rank] = [partial(signalled, config, moment, step, signal.Signals[name])]
        if both:
            other = "before save" if "save" in moment else moment
            prepare[1 - rank] = [partial(signalled, config, other, step, signal.Signals[name])]
        victims = on_two_ranks(zygote, config, *prepare)
        assert ends(*victims) == [EXIT_STATUS[name]] * 2, [victim.told() for victim in victims]
        for victim in victims:
            assert f"stopped by {name} at step {step}, which is saved in " in victim.told().splitlines()[-1]
        found = checkpoint.newest(place / "run" / "checkpoints")
        assert found is not None
        assert (found.step, found.score) == (step, None)
    assert ends(*on_two_ranks(zygote, config)) == [0, 0]
    assert same_end(place / "run", pair)


def test_different_signals_at_the_same_step(zygote: Zygote, data: Path, place: Path, pair: Path) -> None:
    """Oracle: both ranks name the same one."""
    config = config_of(data, place)
    numbers = (signal.SIGINT, signal.SIGUSR1)
    victims = on_two_ranks(zygote, config, *([partial(signalled, config, "step", 3, number)] for number in numbers))
    assert ends(*victims) == [75, 75]
    assert all("stopped by SIGUSR1 at step 3" in victim.told() for victim in victims)
    assert ends(*on_two_ranks(zygote, config)) == [0, 0]
    assert same_end(place / "run", pair)


def killed(config: RunConfig, moment: str, step: int) -> None:
    """It dies."""
    at(config, moment, step, lambda: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize(
    ("rank", "moment", "step"),
    [
        (1, "step", 3),
        (0, "evaluation", 4),
        *(pytest.param(*case, marks=pytest.mark.long) for case in [(0, "step", 3), (1, "evaluation", 4)]),
    ],
)
def test_a_killed_rank_takes_the_other_along(
    rank: int, moment: str, step: int, zygote: Zygote, data: Path, place: Path, pair: Path
) -> None:
    """Oracle: the other rank does not wait for ever, nothing is lost, and two ranks go on to the same outcome."""
    config = config_of(data, place, "trainer.save_every=1")
    prepare: list[list[Preparation]] = [[], []]
    prepare[rank] = [partial(killed, config, moment, step)]
    statuses = ends(*on_two_ranks(zygote, config, *prepare))
    assert statuses[rank] == -signal.SIGKILL
    assert statuses[1 - rank] not in (0, 75)
    victims = on_two_ranks(zygote, config)
    assert ends(*victims) == [0, 0]
    assert f"continues at step {step - 1}:" in victims[0].told()
    assert same_end(place / "run", pair)


def test_want_of_memory_on_one_rank_ends_both(zygote: Zygote, data: Path, place: Path, pair: Path) -> None:
    """Oracle: status 2 and the keys of this rank's share, of one image; the other does not wait for ever; two ranks go
    on to the same outcome."""
    config = config_of(data, place)
    victims = on_two_ranks(zygote, config, [], [partial(without_memory, 6)])
    statuses = ends(*victims)
    assert statuses[1] == 2
    assert statuses[0] not in (0, 75)
    assert "error: training ran out of memory: 2.50 GiB more were asked for" in victims[1].told()
    assert "trainer.accumulation" not in victims[1].told()
    victims = on_two_ranks(zygote, config)
    assert ends(*victims) == [0, 0]
    assert "continues at step 4:" in victims[0].told()
    assert same_end(place / "run", pair)


def scored_alone(config: RunConfig, run: Path, path: Path) -> None:
    """A victim: one process evaluates what two have trained."""
    found = checkpoint.newest(run / "checkpoints")
    assert found is not None
    dataset = build.build_dataset(config, config.val_split)
    model = build.build_model(config, dataset.num_classes, pretrained=False)
    restore.restore_model(model, found.weights, found.path)
    scores = build.build_evaluator(config, dataset, torch.device("cpu"))(model)
    assert scores is not None
    path.write_text(json.dumps([scores.as_dict(), scores.confusion.tolist()]))


def test_two_ranks_count_each_image_once(zygote: Zygote, data: Path, place: Path, pair: Path, tmp_path: Path) -> None:
    """Oracle: one process on the same weights: three images of one rank and two of the other are five."""
    zygote.finish(scored_alone, run_config(data, place), pair, tmp_path / "scores.json")
    scores, confusion = json.loads((tmp_path / "scores.json").read_text())
    row = outcome(pair)["rows"][-1]
    assert row["step"] == 8
    assert sum(map(sum, confusion)) == 5 * 38 * 56
    assert {name: row[name] for name in scores if name != "loss"} == {
        name: value for name, value in scores.items() if name != "loss"
    }
    assert row["val/loss"] == pytest.approx(scores["loss"], rel=1e-6)


def test_norms_are_shared_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the kind of the norms that DistributedDataParallel is handed; SyncBatchNorm raises on the CPU."""
    handed: list[tuple[nn.Module, Any]] = []

    def parallel(model: nn.Module, **options: Any) -> nn.Module:
        handed.append((model, options.get("device_ids")))
        return model

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", parallel)
    for device, kind, ids in (("cpu", nn.BatchNorm2d, None), ("cuda:1", nn.SyncBatchNorm, [1])):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        distributed.parallel(model, torch.device(device))
        assert type(handed[-1][0][1]) is kind
        assert handed[-1][1] == ids
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on"):
        handed[-1][0](torch.zeros(2, 3, 4, 4))


def words_of(data: Path, place: Path) -> list[str]:
    """The command line of the same run."""
    words = [f"runs_dir={place}"]

    def compose(given: tuple[str, ...]) -> RunConfig:
        words.extend(given)
        return compose_config(given)

    with mock.patch.object(zygote_module, "_compose", compose):
        config_of(data, place)
    return words


@pytest.fixture
def torchrun(data: Path, place: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts two ranks of tools/train.py that wait for a signal at a moment; their agent leads a process group."""
    started: list[subprocess.Popen[bytes]] = []

    def start(moment: str, step: int, *options: str) -> tuple[subprocess.Popen[bytes], Path]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *options]
        command += [str(interruptions.__file__), moment, str(step), *words_of(data, place)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        log = tmp_path / "torchrun.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=environment, start_new_session=True, cwd=tmp_path
            )
        started.append(process)
        return process, log

    yield start
    for process in started:
        if interruptions.processes_of(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


USR1 = "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1"
TORCHRUN = [
    ("SIGTERM", "step", 3, False),
    pytest.param("SIGINT", "step", 3, False, marks=pytest.mark.long),
    pytest.param("SIGUSR1", "evaluation", 4, False, marks=pytest.mark.long),
    pytest.param("SIGTERM", "step", 3, True, marks=pytest.mark.long),
    pytest.param("SIGINT", "evaluation", 4, True, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "moment", "step", "everyone"), TORCHRUN)
def test_a_signal_to_torchrun_stops_its_ranks(
    name: str,
    moment: str,
    step: int,
    everyone: bool,
    torchrun: Any,
    zygote: Zygote,
    data: Path,
    place: Path,
    pair: Path,
) -> None:
    """Oracle: the message; torchrun's own exit status, which is 1 whatever the ranks' is; nobody left; two ranks go on
    to the outcome of two that nothing interrupts. A signal to the group reaches ranks twice: torchrun sends its own."""
    agent, log = torchrun(moment, step, *([USR1] if name == "SIGUSR1" else []))
    victim = Victim(agent, log)
    wait_until(lambda: log.read_text().count("waiting in process") == 2, victim, seconds=120)
    ranks = [int(number) for number in re.findall(r"waiting in process (\d+)", log.read_text())]
    for process in [*(ranks if everyone else []), agent.pid]:
        os.kill(process, signal.Signals[name])
    assert agent.wait(60) == 1
    assert victim.told().count(f"stopped by {name} at step {step}, which is saved in") == 2, victim.told()
    assert not [process for process in ranks if Path(f"/proc/{process}").exists()]
    victims = on_two_ranks(zygote, config_of(data, place))
    assert ends(*victims) == [0, 0]
    assert f"continues at step {step}:" in victims[0].told()
    assert same_end(place / "run", pair)
