"""Fine-tuning: a new run that begins with what an old one, or a file, has learnt."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from ccnet import checkpoint, distributed
from ccnet.errors import CheckpointError
from ccnet.models.backbones.weights import read_weights
from ccnet.models.segmentor import Segmentor
from ccnet.run import find_checkpoint

logger = logging.getLogger("ccnet")

WEIGHT_FILES = (".safetensors", ".pth", ".pt")
BACKBONE = "backbone."


@dataclass(frozen=True)
class InitReport:
    """What became of every tensor.

    source: the checkpoint or file.
    taken: number of the model's tensors that were filled.
    anew: the model's other tensors, which keep their fresh values, and why.
    unused: tensors of the source that the model has no place for.
    """

    source: Path
    taken: int
    anew: dict[str, str]
    unused: list[str]

    def __str__(self) -> str:
        anew = [f"{name} ({reason})" for name, reason in self.anew.items()]
        return (
            f"init_from {self.source}: {self.taken} of {self.taken + len(anew)} tensors taken"
            f"; made anew: {_first(anew)}; not used: {_first(self.unused)}"
        )


def initialize(model: Segmentor, source: str, class_names: Sequence[str], runs_dir: str) -> InitReport:
    """Fills a fresh model with everything that fits in name and shape, and logs what was which.

    A classifier for other classes stays fresh, also where there are as many of them. The input's normalisation comes
    along with the weights that were trained on it.

    Args:
        model: with its fresh initialisation.
        source: a run (its best checkpoint), a checkpoint folder (its averaged weights, where it has some), or a weight
            file, whose classes are unknown and count as equal if they are as many.
        class_names: that the model is going to learn.
        runs_dir: where `latest` is looked up.

    Raises:
        CheckpointError: no such source, a damaged one, numbers that are not finite, or fewer than half of the
            backbone's tensors fit: that is a source for another model.
    """
    path, state, old_names = _read(source, runs_dir)
    own = model.state_dict()
    anew = {
        name: reason
        for name, tensor in own.items()
        if (reason := _misfit(name, tensor, state.get(name), old_names, class_names))
    }
    taken = {name: state[name] for name in own if name not in anew}
    _require_backbone(path, own, taken)
    for name, value in taken.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"init_from {path}: {name} holds numbers that are not finite")
    model.load_state_dict(taken, strict=False)
    report = InitReport(path, len(taken), anew, sorted(state.keys() - own.keys()))
    if distributed.is_main():
        logger.info("%s", report)
    return report


def _read(source: str, runs_dir: str) -> tuple[Path, Mapping[str, Tensor], list[str] | None]:
    path = Path(source)
    if path == Path(runs_dir, "latest"):
        raise CheckpointError(f"init_from={source} is this run once it has begun; name the run itself")
    if path.suffix in WEIGHT_FILES and not path.is_dir():
        return path, read_weights(path), None
    path = find_checkpoint(source, runs_dir)
    found = checkpoint.load(path)
    names = found.meta.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} does not say which classes it knows")
    return path, found.weights, names


def _misfit(
    name: str, own: Tensor, found: Tensor | None, old_names: Sequence[str] | None, class_names: Sequence[str]
) -> str | None:
    """Why a tensor is not taken."""
    if found is None:
        return "not in the source"
    is_classifier = ".classifier." in name and not name.startswith(BACKBONE)
    if is_classifier and found.ndim and len(found) != len(own):
        return f"{len(found)} -> {len(own)} classes"
    if found.shape != own.shape:
        return f"{tuple(found.shape)} -> {tuple(own.shape)}"
    if found.is_floating_point() != own.is_floating_point():
        return f"{found.dtype} -> {own.dtype}"
    if is_classifier and old_names is not None and list(old_names) != list(class_names):
        old, new = next(pair for pair in zip_longest(old_names, class_names) if pair[0] != pair[1])
        return f"other classes: {old!r} -> {new!r}"
    return None


def _require_backbone(path: Path, own: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> None:
    wanted, fit = (sum(name.startswith(BACKBONE) for name in names) for names in (own, taken))
    if fit < wanted / 2:
        raise CheckpointError(
            f"init_from {path}: only {fit} of the backbone's {wanted} tensors fit; it was made for another model "
            "(weights of a bare backbone go to backbone.weights)"
        )


def _first(items: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more if items else "nothing"
