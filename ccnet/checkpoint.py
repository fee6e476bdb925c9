"""Checkpoints: folders of safetensors and JSON under a SHA-256 manifest. Data, never code.

checkpoints/step_0004000/
    model.safetensors        the segmentor's state
    ema.safetensors          the same, averaged over the steps, where that was asked for
    optimizer.safetensors    the optimizer's tensors
    meta.json                step, score, classes, palette, configuration, and what else is not a tensor
    MANIFEST.json            size and SHA-256 of each file; written last

What is random in a run is a function of (seed, step, rank), so the step is all that has to be kept of it.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ccnet import sealed_folder
from ccnet.errors import CheckpointError

logger = logging.getLogger("ccnet")

META = "meta.json"
MODEL = "model.safetensors"
EMA = "ema.safetensors"
OPTIMIZER = "optimizer.safetensors"

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The verified contents of a checkpoint folder."""

    path: Path
    meta: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    ema: dict[str, Tensor] | None = None

    @property
    def step(self) -> int:
        return int(self.meta["step"])

    @property
    def score(self) -> float | None:
        """mIoU on the validation split, if the model was evaluated at this step."""
        score: float | None = self.meta["score"]
        return score

    def state_of(self, part: str) -> dict[str, Any]:
        """The plain values of a part of the run.

        Raises:
            CheckpointError: there are none.
        """
        parts = self.meta.get("parts")
        state = parts.get(part) if isinstance(parts, dict) else None
        if not isinstance(state, dict):
            raise CheckpointError(f"{META} has no state of {part}; it is damaged or from an older version")
        return state

    def class_pixels(self, num_classes: int) -> list[int] | None:
        """The training set's pixels of each class, where the run has counted them.

        Raises:
            CheckpointError: something else stands there.
        """
        pixels = self.meta.get("class_pixels")
        if pixels is None:
            return None
        is_list = isinstance(pixels, list) and len(pixels) == num_classes
        if not is_list or not all(type(count) is int and 0 <= count < 2**63 for count in pixels):
            raise CheckpointError(f"{self.path}: class_pixels must be {num_classes} numbers of pixels; it is damaged")
        return list(pixels)

    @property
    def weights(self) -> dict[str, Tensor]:
        """What to evaluate and to predict with: the averaged weights where there are any."""
        return self.model if self.ema is None else self.ema


def save(
    folder: Path, model: nn.Module, optimizer: Optimizer, meta: Mapping[str, Any], ema: State | None = None
) -> Path:
    """Writes `folder/step_...`: it is there whole or not at all.

    Args:
        folder: the run's checkpoints folder.
        model: whose state is saved.
        optimizer: whose tensors are saved; its learning rates and the like are the configuration's.
        meta: plain values; `step` (int) and `score` (float or None) are needed.
        ema: the averaged state of the model, if there is one.

    Raises:
        CheckpointError: the disk refuses, or the state holds a NaN or an infinity; earlier checkpoints are untouched.
    """
    target = folder / f"step_{meta['step']:07d}"
    tensors, plain = _flatten(optimizer.state_dict())
    states: dict[str, State] = {MODEL: model.state_dict(), OPTIMIZER: tensors, **({} if ema is None else {EMA: ema})}
    files = {}
    for name, state in states.items():
        dense = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        _require_finite(dense, target / name)
        files[name] = safetensors.torch.save(dense)
    files[META] = json.dumps({**meta, "optimizer": plain}, indent=1).encode()
    sealed_folder.write(target, files)
    return target


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint folder; nothing in it is trusted.

    Raises:
        CheckpointError: no checkpoint, a missing, damaged or truncated file.
    """
    contents = sealed_folder.read(path, (MODEL, OPTIMIZER, META), (EMA,))
    try:
        meta = json.loads(contents[META])
        _require_step_and_score(meta)
        return Checkpoint(
            path=path,
            meta=meta,
            model=safetensors.torch.load(contents[MODEL]),
            optimizer=safetensors.torch.load(contents[OPTIMIZER]),
            ema=safetensors.torch.load(contents[EMA]) if EMA in contents else None,
        )
    except Exception as error:  # a stranger's header makes json, safetensors and torch raise whatever they like
        raise CheckpointError(f"{path} is not a checkpoint that this version reads: {error}") from error


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
    if not errors and (names := [path.name for path in folder.glob("step_*") if path.suffix != sealed_folder.ASIDE]):
        errors.append(CheckpointError(f"{max(names)} has no {sealed_folder.MANIFEST}"))
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} is whole; the newest: {errors[0]}")
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint with the highest score; the newest where none has been scored; None where there is none."""
    scored = {path: _score(path) for path in list_checkpoints(folder)}
    return max(scored, key=lambda path: (scored[path], path.name), default=None)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first.

    One that was killed while it was replaced by a newer save of the same step counts, too.
    """
    pattern = re.compile(rf"step_(\d+)({re.escape(sealed_folder.REPLACED)})?")
    found = [(match, path) for path in folder.glob("step_*") if (match := pattern.fullmatch(path.name))]
    whole = [(int(match[1]), not match[2], path) for match, path in found if (path / sealed_folder.MANIFEST).is_file()]
    return [path for _, _, path in sorted(whole)]


def rotate(folder: Path, keep: int, saved: Path) -> None:
    """Deletes all but the newest `keep` checkpoints and the best one, once the newest has been read back whole.

    Damaged ones further on, which the run has skipped and not passed yet, do not count. A folder that cannot be deleted
    stays, with a warning: training is worth more.

    Args:
        folder: the run's checkpoints folder.
        keep: number of the newest that stay.
        saved: the newest.

    Raises:
        CheckpointError: the newest is damaged; nothing is deleted.
    """
    sealed_folder.sweep(folder)
    paths = list_checkpoints(folder)
    older = paths[: paths.index(saved) + 1]
    kept = {*older[-keep:], best(folder)}
    if not set(older) - kept:
        return
    load(saved)
    for path in older:
        if path not in kept:
            try:
                sealed_folder.delete(path)
            except OSError as error:
                logger.warning("%s is no longer needed and could not be deleted: %s", path, error)


def sha256_of(path: Path) -> str:
    """The hash of a checkpoint's weights, as its manifest states it."""
    manifest = sealed_folder.read_manifest(path)
    return str(manifest[EMA if EMA in manifest else MODEL]["sha256"])


def _score(path: Path) -> float:
    try:
        score = _require_step_and_score(json.loads(sealed_folder.read_one(path, META)))
    except (CheckpointError, ValueError, KeyError, TypeError, RecursionError):
        return -2.0  # damaged: worse than never scored
    return -1.0 if score is None else score


def _require_step_and_score(meta: Mapping[str, Any]) -> float | None:
    step, score = meta["step"], meta["score"]
    if type(step) is not int or not 0 <= step < 2**53:
        raise ValueError(f"its step is {step}")
    if score is not None and not (type(score) in (int, float) and abs(score) < 1e300):
        raise ValueError(f"its score is {score}")
    return None if score is None else float(score)


def _require_finite(state: State, path: Path) -> None:
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path} is not saved: {name} holds numbers that are not finite; lower optimizer.lr, or set "
                "trainer.clip_grad_norm"
            )


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state -> tensors named `index.name`, and the rest as plain values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{index}.{key}"] = value
    return tensors, plain
