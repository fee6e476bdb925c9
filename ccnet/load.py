"""From a checkpoint to a model that is ready to be asked."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ccnet import checkpoint
from ccnet.build import build_model, check, check_trusted
from ccnet.config import RunConfig, from_json, override
from ccnet.data.sample import LabelledImages
from ccnet.errors import CheckpointError
from ccnet.models.segmentor import Segmentor

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
        stored = from_json(found.meta["config"])
        class_names = [str(name) for name in found.meta["class_names"]]
        step = found.step
        palette = [(int(red), int(green), int(blue)) for red, green, blue in found.meta["palette"]]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not say what it is: {error}") from error
    check_trusted(stored, parts, allowed)
    config = override(stored, overrides)
    check(config, overrides, parts)
    model = build_model(config, len(class_names), pretrained=False)
    checkpoint.restore_model(model, found)
    return LoadedModel(model.to(device).eval(), config, class_names, palette, path, step)
