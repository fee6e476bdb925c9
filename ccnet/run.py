"""Run folders: runs/NAME holds one run, runs/latest names the newest."""

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ccnet import checkpoint
from ccnet.config import RunConfig, differing_keys, from_yaml, to_json, to_yaml
from ccnet.errors import CheckpointError, ConfigError
from ccnet.load import LoadedModel

CONFIG = "config.yaml"
MODEL_KEYS = ("head", "backbone", "model.")
MAY_DIFFER = ("trainer.workers:", "trainer.log_every:", "runs_dir:")


def open_run(config: RunConfig) -> Path:
    """The folder of this run, new or continued; never one that holds another run.

    Raises:
        ConfigError: the folder exists and its run was started with another configuration.
    """
    folder = Path(config.runs_dir) / config.name
    if (folder / CONFIG).is_file():
        stored = from_yaml(folder / CONFIG)
        changed = [line for line in differing_keys(stored, config) if not line.startswith(MAY_DIFFER)]
        if changed:
            raise ConfigError(
                f"{folder} holds another run ({'; '.join(changed[:8])}); give this one a name=... of its own"
                + (
                    ""
                    if checkpoint.list_checkpoints(folder / "checkpoints")
                    else ", or delete that one: it saved nothing"
                )
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and holds no run; give this run a name=... of its own")
    return folder


def write_run(folder: Path, config: RunConfig, device: str) -> None:
    """Records what the run is, and that it is the latest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment.json").write_text(json.dumps(environment(device, config.seed), indent=1), encoding="utf-8")
    (folder / CONFIG).write_text(to_yaml(config), encoding="utf-8")
    # A text file, not a symbolic link: Windows.
    (Path(config.runs_dir) / "latest").write_text(f"{config.name}\n", encoding="utf-8")


def environment(device: str, seed: int) -> dict[str, Any]:
    """Versions, code state, machine."""
    packages = ("ccnet", "torch", "torchvision", "albumentations", "opencv-python-headless", "numpy", "pillow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "commit": _commit(),
        "device": device,
        "seed": seed,
    }


def about(config: RunConfig, class_names: Sequence[str], palette: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What a checkpoint tells about itself, so that val and predict need nothing else."""
    return {"config": to_json(config), "class_names": list(class_names), "palette": [list(color) for color in palette]}


def evaluation_record(loaded: LoadedModel, split: str) -> dict[str, Any]:
    """What was evaluated, and how."""
    return {
        "checkpoint": str(loaded.path),
        "sha256": checkpoint.sha256_of(loaded.path),
        "step": loaded.step,
        "split": split,
        "dataset": loaded.config.dataset,
        "backbone": loaded.config.backbone,
        "head": loaded.config.head,
        "evaluation": loaded.config.evaluation,
        "version": version("ccnet"),
    }


def report_folder(path: Path, split: str, config: RunConfig, overrides: Sequence[str] = ()) -> Path:
    """Where an evaluation goes: report/ of the checkpoint's run, or here if it lies in none; a folder each for what was
    evaluated and how.

    Args:
        path: of the checkpoint.
        split: of the data.
        config: what is evaluated.
        overrides: the changes of the checkpoint's configuration; those of the model are part of the name.
    """
    base = path.parent.parent if path.parent.name == "checkpoints" else Path()
    evaluation = config.evaluation
    scales = [f"{scale:g}" for scale in evaluation.get("scales", [])]
    words = [path.name, split, *(scales if scales != ["1"] else [])]
    words += ["flip"] if evaluation.get("flip") else []
    words += [f"slide{'x'.join(map(str, evaluation['crop_size']))}"] if evaluation.get("crop_size") else []
    words += [word.replace("/", "-") for word in overrides if word.startswith(MODEL_KEYS)]
    return base / "report" / "_".join(words)


def find_checkpoint(where: str | None, runs_dir: str = "runs") -> Path:
    """A checkpoint folder, from a checkpoint, a run (its best checkpoint) or nothing (the latest run).

    Raises:
        CheckpointError: there is none.
    """
    path = _latest(Path(runs_dir)) if where is None or Path(where) == Path(runs_dir, "latest") else Path(where)
    if (path / checkpoint.MANIFEST).is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run or checkpoint folder")
    found = checkpoint.best(path / "checkpoints")
    if found is None:
        raise CheckpointError(f"{path} holds no finished checkpoint")
    return found


def _latest(runs_dir: Path) -> Path:
    pointer = runs_dir / "latest"
    if not pointer.is_file():
        raise CheckpointError(f"there is no {pointer}: train first, or name a run or checkpoint with --checkpoint")
    return runs_dir / pointer.read_text(encoding="utf-8").strip()


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # not a checkout, or no git
