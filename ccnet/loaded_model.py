"""From a checkpoint to a model that is ready to be asked."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import torch

from ccnet import checkpoint, restore
from ccnet.build import build_model
from ccnet.checkpoint import State
from ccnet.config import from_json, override
from ccnet.data.sample import IGNORE_INDEX, LabelledImages
from ccnet.errors import CheckpointError, ConfigError
from ccnet.models.segmentor import Segmentor
from ccnet.part_checks import check, check_trusted
from ccnet.schema import RunConfig

MODEL_PARTS = ("backbone", "head", "auxiliary_head", "evaluation")


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode on its device, with what its checkpoint says about it."""

    model: Segmentor
    config: RunConfig
    class_names: list[str]
    palette: list[tuple[int, int, int]]
    path: Path
    step: int

    def require_classes_of(self, dataset: LabelledImages) -> None:
        """Raises:
        CheckpointError: the data set has other classes than the model.
        """
        if dataset.class_names != self.class_names:
            raise CheckpointError(
                f"{self.path} knows the {len(self.class_names)} classes {', '.join(self.class_names)}; "
                f"the data set has {len(dataset.class_names)}: {', '.join(dataset.class_names)}"
            )


def load_model(
    path: Path,
    device: torch.device,
    overrides: Sequence[str] = (),
    parts: Sequence[str] = MODEL_PARTS,
    allowed: Collection[str] = (),
) -> LoadedModel:
    """Builds the model that a checkpoint was made from, and fills it.

    Args:
        path: a checkpoint folder.
        device: where the model goes.
        overrides: changes of the stored configuration, such as `head.recurrence=3`; these are the caller's own words
            and may name what they like.
        parts: of the configuration that the caller is going to build; the others are not looked at.
        allowed: targets beside ccnet's own classes that the checkpoint may name.

    Raises:
        CheckpointError: a damaged checkpoint, or one whose weights do not fit.
        ConfigError: its configuration is unknown here, or wants what a checkpoint must not ask for.
    """
    found = checkpoint.load(path)
    try:
        stored = _bounded(from_json(found.meta["config"]))
        class_names, palette = _classes(found.meta["class_names"], found.meta["palette"])
        check_trusted(stored, parts, allowed)
        config = override(stored, overrides)
        check(config, overrides, parts)
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error)[:500]}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say what it is: {str(error)[:500]}") from error
    model = _build(config, len(class_names), found.weights, path)
    restore.restore_model(model, found.weights, path)
    return LoadedModel(model.to(device).eval(), config, class_names, palette, path, found.step)


def _classes(names: Any, palette: Any) -> tuple[list[str], list[tuple[int, int, int]]]:
    is_list = isinstance(names, list) and all(type(name) is str for name in names)
    if not is_list or not 0 < len(names) <= IGNORE_INDEX:
        raise ValueError(f"class_names must be 1 to {IGNORE_INDEX} names")
    if not isinstance(palette, list) or len(palette) != len(names) or not all(map(_is_color, palette)):
        raise ValueError("palette must hold a colour of each class, three numbers of 0..255")
    return names, [(red, green, blue) for red, green, blue in palette]


def _is_color(color: Any) -> bool:
    return isinstance(color, list) and len(color) == 3 and all(type(x) is int and 0 <= x <= 255 for x in color)


def _bounded(config: RunConfig) -> RunConfig:
    """What val takes beside the parts: the split, which names the report's folder, and the workers."""
    split = PureWindowsPath(config.val_split)  # which takes both kinds of slashes
    if split.anchor or ".." in split.parts:
        raise ValueError(f"val_split={config.val_split} leads elsewhere")
    config.trainer.workers = min(config.trainer.workers, os.cpu_count() or 1)
    config.trainer.worker_timeout = min(config.trainer.worker_timeout, 3600.0)
    return config


def _build(config: RunConfig, num_classes: int, state: State, path: Path) -> Segmentor:
    try:
        with torch.device("meta"):  # takes no memory until it is known to be the network of these weights
            restore.require_fit(build_model(config, num_classes, pretrained=False), state, path)
        return build_model(config, num_classes, pretrained=False)
    except CheckpointError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{path}: {str(error)[:500]}") from error
    except Exception as error:  # whatever a constructor raises at a stranger's values
        raise CheckpointError(
            f"{path}: its network cannot be built: {type(error).__name__}: {str(error)[:500]}"
        ) from error
