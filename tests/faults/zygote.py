"""One warmed process that forks victims, so that a fault costs fractions of a second. Linux only.

    def test_it(zygote: Zygote, data: Path, place: Path, reference: dict[str, Any]) -> None:
        config = run_config(data, place, "trainer.workers=2")  # a real configuration, shrunk, in place / "run"
        victim = zygote.fork(train, config)  # a process that calls session.train(config)
        time.sleep(0.2)
        os.kill(victim.pid, signal.SIGTERM)  # or os.killpg: a victim leads a process group
        assert victim.wait() == 75  # exit status, or -signal
        assert "stopped by SIGTERM" in victim.told()  # stdout and stderr
        zygote.finish(train, config)  # the same again; fails unless the status is 0
        assert outcome(place / "run") == reference  # that of a run without interruption

A victim is any function at the top of any test file; its arguments are pickled. It ends like a tool: a `UserError` is
one line and status 2, a run that a signal stopped exits with its own status. What it patches is its own affair: the
next one is forked anew. `environment=` sets variables (RANK, WORLD_SIZE, ...).

Fixtures (conftest.py): `zygote`; `data`, a folder data set of 5 + 5 images; `place`, an empty folder in memory for
runs; `config`, which is run_config(data, place); `reference`, the outcome of an uninterrupted run of it.
"""

import atexit
import hashlib
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from ccnet.config import compose_config
from ccnet.errors import one_line_errors
from ccnet.schema import RunConfig

ROOT = Path(__file__).resolve().parents[2]
MAX_STEPS = 8
NONE: Mapping[str, str] = {}
TIMES = {"images_per_second", "data_wait", "memory_gib"}  # the columns of metrics.jsonl that no two runs share


def run_config(data: Path, runs: Path, *overrides: str) -> RunConfig:
    """A small run in runs/run: attention, dropout, batch norm, AdamW, augmentation, averaged weights, early
    stopping; 8 steps, a checkpoint after each, an evaluation after 4 and 8, rows at 3, 6 and 8."""
    words = [
        *("dataset=folder", f"dataset.root={data}", "dataset.class_names=[dark,bright]"),
        "dataset.palette=[[0,0,0],[255,255,255]]",
        *("backbone=patches", "backbone.channels=8", "augmentation.crop_size=[24,32]", "loss=cross_entropy"),
        *("head=rcca", "head.channels=8", "head.reduction_kernel=1", "head.fusion_kernel=1", "head.dropout=0.3"),
        *("schedule.warmup_steps=2", f"trainer.max_steps={MAX_STEPS}", "trainer.batch_size=2", "trainer.device=cpu"),
        *("trainer.log_every=3", "trainer.evaluate_every=4", "trainer.save_every=1", "trainer.ema_decay=0.9"),
        *("trainer.early_stopping.patience=50", "name=run", *overrides),
    ]
    return replace(_compose(tuple(words)), runs_dir=str(runs))


_compose = lru_cache(compose_config)


def train(config: RunConfig) -> None:
    """A victim: what tools/train.py does."""
    from ccnet import session  # the test's own process needs no torch for this

    session.train(config)


def outcome(folder: Path) -> dict[str, Any]:
    """What two runs that are the same to the bit have in common: hashes of all that was saved, scores, rows."""
    from ccnet import checkpoint, sealed_folder

    found = checkpoint.newest(folder / "checkpoints")
    assert found is not None
    hashes = {name: entry["sha256"] for name, entry in sealed_folder.read_manifest(found.path).items()}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    report = sorted(path for path in (folder / "report").rglob("*") if path.is_file())
    place = re.compile(
        f"{re.escape(str(folder))}|{re.escape(folder.name)} / ".encode()
    )  # which differ, in path and title
    return {
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
        "tensors": {name: digest for name, digest in hashes.items() if name.endswith(".safetensors")},
        "meta": {name: value for name, value in found.meta.items() if name != "config"},  # the run's name is in it
        "rows": [{name: value for name, value in row.items() if name not in TIMES} for row in rows],
        "report": {path.name: hashlib.sha256(place.sub(b"", path.read_bytes())).hexdigest() for path in report},
    }


@dataclass
class Victim:
    """A process that was forked; `log` takes what it tells."""

    process: multiprocessing.process.BaseProcess
    log: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit status, or the negative number of the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            raise TimeoutError(f"the victim still runs after {seconds} s; it told:\n{self.told()}")
        return self.process.exitcode

    def kill_after(self, seconds: float) -> bool:
        """Whether it had to be killed; False where it had come to its end, which must be a good one."""
        self.process.join(seconds)
        self.process.kill()
        status = self.wait()
        assert status in (0, -signal.SIGKILL), f"status {status}:\n{self.told()}"
        return status != 0

    def told(self) -> str:
        """What it has written to stdout and stderr so far."""
        return self.log.read_text() if self.log.exists() else ""


@dataclass
class Zygote:
    """Forks victims; `folder` takes their logs."""

    folder: Path
    victims: list[Victim] = field(default_factory=list)
    numbers: count = field(default_factory=count)  # type: ignore[type-arg]

    def fork(self, function: Callable[..., None], *arguments: Any, environment: Mapping[str, str] = NONE) -> Victim:
        """Runs a function in a process of its own, which leads a process group of its own."""
        log = self.folder / f"{next(self.numbers)}.txt"
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_live, args=(function, arguments, log, dict(environment)))
        process.start()
        self.victims.append(Victim(process, log))
        return self.victims[-1]

    def finish(self, function: Callable[..., None], *arguments: Any) -> str:
        """Runs a function that must succeed; returns what it told."""
        victim = self.fork(function, *arguments)
        status = victim.wait()
        assert status == 0, f"status {status}:\n{victim.told()}"
        return victim.told()

    def bury(self) -> None:
        """Ends what still runs, and the children of all victims."""
        for victim in self.victims:
            with suppress(ProcessLookupError):
                os.killpg(victim.pid, signal.SIGKILL)
            victim.process.join()
        self.victims.clear()


def start_server() -> None:
    """Imports and warms what victims need, in the server from which they are forked."""
    # Python 3.11 does not hand its sys.path on.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    multiprocessing.set_forkserver_preload(["tests.faults.warm"])
    first = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    first.start()  # starts the server, and returns when that is warm
    first.join()
    assert first.exitcode == 0


def _live(function: Callable[..., None], arguments: Sequence[Any], log: Path, environment: Mapping[str, str]) -> None:
    assert "tests.faults.warm" in sys.modules, "the server could not import it"
    os.setsid()
    os.environ.update(environment)
    multiprocessing.set_start_method("fork", force=True)  # of data workers; the server's own would start another server
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    status = 1
    try:
        with one_line_errors():
            function(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    # As an interpreter ends; multiprocessing would wait for the children first.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
