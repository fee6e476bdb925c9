"""Checkpoints: folders of safetensors and JSON under a SHA-256 manifest. Data, never code.

checkpoints/step_0004000/
    model.safetensors        the segmentor's state
    optimizer.safetensors    the optimizer's tensors
    meta.json                step, score, classes, palette, configuration, and what else is not a tensor
    MANIFEST.json            size and SHA-256 of each file; written last
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccnet.errors import CheckpointError

logger = logging.getLogger("ccnet")

MANIFEST = "MANIFEST.json"
META = "meta.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The verified contents of a checkpoint folder."""

    path: Path
    meta: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]

    @property
    def step(self) -> int:
        return int(self.meta["step"])

    @property
    def score(self) -> float | None:
        """mIoU on the validation split, if the model was evaluated at this step."""
        score: float | None = self.meta["score"]
        return score


def save(folder: Path, model: nn.Module, optimizer: Optimizer, meta: Mapping[str, Any]) -> Path:
    """Writes `folder/step_...` aside, flushed to disk, then renames it: it is there whole or not at all.

    Args:
        folder: the run's checkpoints folder.
        meta: plain values; `step` (int) and `score` (float or None) are needed.
    """
    target = folder / f"step_{meta['step']:07d}"
    aside = folder / f".{target.name}-{os.getpid()}"
    for abandoned in folder.glob(".step_*"):  # by processes that were killed while they saved
        shutil.rmtree(abandoned, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors, plain = _flatten(optimizer.state_dict())
    files = {
        MODEL: safetensors.torch.save(_dense(model.state_dict())),
        OPTIMIZER: safetensors.torch.save(_dense(tensors)),
        META: json.dumps({**meta, "optimizer": plain}, indent=1).encode(),
    }
    manifest = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    try:
        for name, data in [*files.items(), (MANIFEST, json.dumps(manifest, indent=1).encode())]:
            _write_through(aside / name, data)
        _flush_folder(aside)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush_folder(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        size = sum(map(len, files.values()))
        raise CheckpointError(f"{target} could not be written ({error}); it needs {size} bytes") from error
    return target


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint folder; the bytes that are parsed are the bytes that were hashed.

    Raises:
        CheckpointError: no checkpoint, a missing, damaged or truncated file.
    """
    manifest = _read_manifest(path)
    contents = {name: _read_verified(path / name, manifest) for name in (MODEL, OPTIMIZER, META)}
    try:
        return Checkpoint(
            path=path,
            meta=json.loads(contents[META]),
            model=safetensors.torch.load(contents[MODEL]),
            optimizer=safetensors.torch.load(contents[OPTIMIZER]),
        )
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that this version reads: {error}") from error


def restore_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Fills the model; every tensor must fit.

    Raises:
        CheckpointError: it was made for another model, for instance for another number of classes.
    """
    own = model.state_dict()
    problems = [f"{key} is missing" for key in own if key not in checkpoint.model]
    problems += [f"{key} is unknown" for key in checkpoint.model if key not in own]
    problems += [
        f"{key} is {tuple(checkpoint.model[key].shape)}, the model's {tuple(value.shape)}"
        for key, value in own.items()
        if key in checkpoint.model and checkpoint.model[key].shape != value.shape
    ]
    if problems:
        listed = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise CheckpointError(f"{checkpoint.path} was made for another model: {listed}")
    model.load_state_dict(checkpoint.model)


def restore_optimizer(optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Fills the optimizer."""
    optimizer.load_state_dict(_unflatten(checkpoint.optimizer, checkpoint.meta["optimizer"]))


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that verifies; None where there is none at all.

    Raises:
        CheckpointError: there are checkpoints and every one of them is damaged.
    """
    errors = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return load(path)
        except CheckpointError as error:
            errors.append(error)
            logger.warning("skipping a damaged checkpoint: %s", error)
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} is whole; the newest: {errors[0]}")
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint with the highest score; the newest where none has been scored; None where there is none."""
    scored = {path: _score(path) for path in list_checkpoints(folder)}
    return max(scored, key=lambda path: (scored[path], path.name), default=None)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    return sorted(path for path in folder.glob("step_*") if (path / MANIFEST).is_file())


def rotate(folder: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one."""
    kept = {*list_checkpoints(folder)[-keep:], best(folder)}
    for path in list_checkpoints(folder):
        if path not in kept:
            (path / MANIFEST).unlink()  # first, so that a half-deleted folder is no checkpoint
            shutil.rmtree(path)


def _score(path: Path) -> float:
    try:
        score = json.loads((path / META).read_bytes())["score"]
    except (OSError, ValueError, KeyError, TypeError):
        return -2.0  # damaged: worse than never scored
    return -1.0 if score is None else float(score)


def _dense(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state dict -> tensors named `index.name`, and the rest as plain values."""
    tensors, plain = {}, {}
    for name, value in _state_items(state["state"]):
        if isinstance(value, Tensor):
            tensors[name] = value
        else:
            plain[name] = value
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def _unflatten(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain["state"].items()]:
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def _state_items(state: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    for index, values in state.items():
        for key, value in values.items():
            yield f"{index}.{key}", value


def _write_through(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Makes names durable where folders can be flushed (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        manifest: dict[str, dict[str, Any]] = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no checkpoint: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not all(isinstance(entry, dict) for entry in manifest.values()):
        raise CheckpointError(f"{path / MANIFEST} is not a manifest")
    return manifest


def _read_verified(path: Path, manifest: Mapping[str, Mapping[str, Any]]) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != manifest.get(path.name, {}).get("sha256"):
        raise CheckpointError(f"{path} is damaged: its {len(data)} bytes are not those that were saved")
    return data


def sha256_of(path: Path) -> str:
    """The hash of a checkpoint's weights, as its manifest states it."""
    return str(_read_manifest(path)[MODEL]["sha256"])
