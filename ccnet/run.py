"""Run folders: runs/NAME holds one run, runs/latest names the newest."""

import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ccnet import checkpoint, distributed, sealed_folder
from ccnet.config import differing_keys, from_yaml, to_json, to_yaml
from ccnet.errors import CheckpointError, ConfigError
from ccnet.schema import RunConfig

logger = logging.getLogger("ccnet")

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
MODEL_KEYS = ("head", "backbone", "model.", "attention", "dataset")
LONGEST_NAME = 200  # of a report's folder, in letters
EVALUATED = ("dataset", "model", "backbone", "attention", "head", "evaluation")  # what scores depend on
USUAL = {"average": "probabilities", "precision": "fp32"}  # of an evaluation
PACKAGES = ("ccnet", "torch", "torchvision", "albumentations", "opencv-python-headless", "numpy", "pillow")
MAY_DIFFER = {
    "runs_dir",
    *(f"trainer.{name}" for name in ("workers", "worker_timeout", "on_bad_sample", "log_every", "save_every", "keep")),
}
MAX_STEPS = "trainer.max_steps"
LATEST = "latest"  # a file in runs_dir that names a run
LOCK = ".lock"
WAIT_SECONDS = 15.0  # a killed run's data workers hold its lock until they see that it is gone, after some five seconds


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Makes the folder where it is missing, and keeps other processes out of it; the system lets go of the lock when
    this process ends, however it ends.

    Raises:
        ConfigError: another process is at it, or the folder cannot be made.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("%s is in use; waiting up to %.0f s for it", folder, WAIT_SECONDS)
            lock.acquire(timeout=WAIT_SECONDS)
    except Timeout:
        raise ConfigError(
            f"another process{_holder(folder)} writes into {folder}; wait for it, or give this run another name=..."
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error}); set runs_dir to a folder that can") from error
    try:
        yield
    finally:
        lock.release()


def _holder(folder: Path) -> str:
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        return f" ({environment['process']} on {environment['host']})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""  # it has just begun


def open_run(config: RunConfig) -> Path:
    """The folder of this run, new or continued; never one that holds another run.

    Raises:
        ConfigError: the folder exists and its run was started with another configuration.
    """
    folder = Path(config.runs_dir) / config.name
    for path in folder.glob("*"):
        if path.is_symlink():
            raise ConfigError(f"{path} is a link, which no run makes; what is written there would go elsewhere")
    if (folder / CONFIG).is_file():
        stored = from_yaml(folder / CONFIG)
        changed = {key: change for key, change in differing_keys(stored, config).items() if key not in MAY_DIFFER}
        if config.trainer.max_steps > stored.trainer.max_steps and changed.pop(MAX_STEPS):
            logger.info(
                "%s: max_steps grows from %d to %d; from here on the schedule is that of the longer run",
                folder,
                stored.trainer.max_steps,
                config.trainer.max_steps,
            )
        listed = "; ".join(f"{key}: {change}" for key, change in list(changed.items())[:8])
        if changed and any((folder / "checkpoints").glob("step_*")):
            raise ConfigError(f"{folder} holds another run ({listed}); give this one a name=... of its own")
        if changed:
            logger.info("%s held another run (%s) that saved nothing; this one takes its place", folder, listed)
    elif folder.exists() and any(
        entry.name != LOCK and entry.suffix != sealed_folder.ASIDE for entry in folder.iterdir()
    ):
        raise ConfigError(f"{folder} is not empty and holds no run; give this run a name=... of its own")
    return folder


def write_run(folder: Path, config: RunConfig, device: str) -> None:
    """Records what the run is, and that it is the latest."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        folder / CONFIG: to_yaml(config),  # first, for without it the folder holds no run
        folder / ENVIRONMENT: json.dumps(environment(device, config.seed), indent=1),
        Path(config.runs_dir) / LATEST: f"{config.name}\n",  # no symbolic link: Windows
    }
    for path, text in texts.items():
        sealed_folder.write_file(path, text.encode())


def environment(device: str, seed: int) -> dict[str, Any]:
    """Versions, code state, machine, command."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": package_versions(),
        "commit": _commit(),
        "device": device,
        "seed": seed,
        "host": platform.node(),
        "process": os.getpid(),
        "ranks": distributed.world_size(),
        "command": sys.argv,
    }


def package_versions() -> dict[str, str]:
    """Of the packages that a number may depend on."""
    return {name: version(name) for name in PACKAGES}


def about(config: RunConfig, class_names: Sequence[str], palette: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What a checkpoint tells about itself, so that val and predict need nothing else."""
    return {"config": to_json(config), "class_names": list(class_names), "palette": [list(color) for color in palette]}


def evaluation_record(
    config: RunConfig, path: Path, step: int, split: str, device: str, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """What was evaluated, and how.

    Args:
        config: of the model and of its evaluation.
        path: of the checkpoint.
        step: of its weights.
        split: of the data.
        device: that computed it.
        overrides: what was changed of the checkpoint's configuration.
    """
    return {
        "checkpoint": str(path),
        "sha256": checkpoint.sha256_of(path),
        "step": step,
        "split": split,
        **{name: to_json(config)[name] for name in EVALUATED},
        "overrides": list(overrides),
        "device": device,
        "ranks": distributed.world_size(),
        "packages": package_versions(),
    }


def report_folder(path: Path, split: str, config: RunConfig, overrides: Sequence[str] = ()) -> Path:
    """Where an evaluation goes: report/ of the checkpoint's run, or beside it if it lies in none; a folder each for
    what was evaluated and how.

    Args:
        path: of the checkpoint.
        split: of the data.
        config: what is evaluated.
        overrides: the changes of the checkpoint's configuration; those of the model and the data are part of the name.

    Raises:
        ConfigError: report/ leads elsewhere.
    """
    log = log_of(path)
    reports = (log.parent if log else path.parent) / "report"
    if reports.is_symlink():
        raise ConfigError(f"{reports} is a link, which no run makes; remove it, or name another folder with --output")
    evaluation = config.evaluation
    scales = [f"{scale:g}" for scale in evaluation.get("scales", [])]
    words = [path.name, split, *(scales if scales != ["1"] else [])]
    words += ["flip"] if evaluation.get("flip") else []
    words += [f"slide{'x'.join(map(str, evaluation['crop_size']))}"] if evaluation.get("crop_size") else []
    words += [f"stride{'x'.join(map(str, evaluation['stride']))}"] if evaluation.get("stride") else []
    words += [evaluation[name] for name, usual in USUAL.items() if evaluation.get(name, usual) != usual]
    words += [word for word in overrides if word.startswith(MODEL_KEYS)]
    name = "_".join(words).replace("/", "-")
    return reports / (name if len(name) <= LONGEST_NAME else _shortened(name))


def _shortened(name: str) -> str:
    """A long name's beginning, and a hash for the rest."""
    return f"{name[: LONGEST_NAME - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def log_of(path: Path) -> Path | None:
    """metrics.jsonl of the run in which a checkpoint lies; None where it lies in none."""
    return path.parent.parent / "metrics.jsonl" if path.parent.name == "checkpoints" else None


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A folder name for each of several checkpoints: its run and step, numbered where that is not enough."""
    names = [f"{log.parent.name}_{path.name}" if (log := log_of(path)) else path.name for path in paths]
    return [f"{name}_{index}" if names.count(name) > 1 else name for index, name in enumerate(names)]


def find_checkpoint(where: str | None, runs_dir: str = "runs") -> Path:
    """A checkpoint folder, from a checkpoint, a run (its best checkpoint) or nothing (the latest run).

    Raises:
        CheckpointError: there is none.
    """
    path = Path(runs_dir, LATEST) if where is None else Path(where)
    if path.name == LATEST and not path.is_dir():
        path = _latest(path.parent)
    if (path / sealed_folder.MANIFEST).is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run or checkpoint folder")
    found = checkpoint.best(path / "checkpoints")
    if found is None:
        raise CheckpointError(f"{path} holds no finished checkpoint")
    return found


def _latest(runs_dir: Path) -> Path:
    pointer = runs_dir / LATEST
    if not pointer.is_file():
        raise CheckpointError(f"there is no {pointer}: train first, or name a run or checkpoint with --checkpoint")
    return runs_dir / pointer.read_text(encoding="utf-8").strip()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # not a checkout, or no git
