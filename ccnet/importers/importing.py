"""From a foreign file to a checkpoint folder of ours that is there whole and verified, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ccnet import checkpoint, run
from ccnet.build import build_model
from ccnet.config import compose_config
from ccnet.errors import CheckpointError, ConfigError
from ccnet.importers import mmseg, official, torchvision_segmentation
from ccnet.importers.classes import Classes, classes_of
from ccnet.importers.foreign import Foreign
from ccnet.importers.golden import TOLERANCE, Golden, read_golden
from ccnet.importers.source import Source, read_source
from ccnet.importers.translation import translated
from ccnet.loaded_model import load_model
from ccnet.models.backbones.weights import COUNTER
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.schema import RunConfig

READERS = {"official": official.read, "mmseg": mmseg.read, "torchvision": torchvision_segmentation.read}
WEIGHTS = "backbone.safetensors"


@dataclass(frozen=True)
class Order:
    """What was asked for; see tools/import_checkpoint.py."""

    kind: str
    file: Path
    output: Path
    recurrence: int | None = None
    classes: Path | None = None
    golden: Path | None = None


@dataclass(frozen=True)
class Result:
    """Lines for the reader, and the largest difference from what `against` says."""

    lines: list[str]
    difference: float
    against: str

    @property
    def is_kept(self) -> bool:
        """Whether the folder was put in its place."""
        return self.difference <= TOLERANCE


def import_checkpoint(order: Order) -> Result:
    """Reads, translates, writes aside, reads back, compares, and only then puts the folder in its place.

    Raises:
        UserError: a mistake in a file or an argument; nothing is written.
    """
    if os.path.lexists(order.output):
        raise ConfigError(f"--output {order.output} is there already; name a folder that is not")
    if not order.output.absolute().parent.is_dir():
        raise ConfigError(f"--output {order.output}: there is no folder {order.output.parent}")
    golden = None if order.golden is None else read_golden(order.golden)
    source = read_source(order.file)
    if order.kind == "torchvision" and not torchvision_segmentation.is_fcn(source):
        return _import_backbone(source, order)
    foreign = READERS[order.kind](source, order.recurrence)
    classes = classes_of(foreign.num_classes, foreign.told, order.classes)
    config = _config(order, foreign, classes)
    model = _model(config, foreign)
    with _aside(order.output) as folder:
        written = _write(folder, model, config, classes)
        result = _verify(written, model, foreign, golden, _lines(foreign, config, classes))
        if result.is_kept:
            written.rename(order.output)
    return result


def _config(order: Order, foreign: Foreign, classes: Classes) -> RunConfig:
    own = ["backbone.weights=null", f"dataset={classes.known or 'cityscapes'}", f"name={order.kind}"]
    config = compose_config([*foreign.overrides, *own])
    return config if classes.known else replace(config, dataset=classes.folder)


def _model(config: RunConfig, foreign: Foreign) -> Segmentor:
    """Our network with their tensors; made on the meta device, as its shapes are a stranger's words until they fit."""
    try:
        with torch.device("meta"):
            model = build_model(config, foreign.num_classes, pretrained=False)
    except (RuntimeError, OverflowError) as error:  # sides that no tensor can have
        raise CheckpointError(f"{foreign.source.path}: its network cannot be built: {error}") from error
    state = translated(foreign.source, foreign.names, model)
    model.preprocess = Preprocess(config.model.mean, config.model.std, config.model.channel_order.value)
    model.load_state_dict({**model.state_dict(), **state}, assign=True)
    return model


def _write(folder: Path, model: Segmentor, config: RunConfig, classes: Classes) -> Path:
    meta = {**run.about(config, classes.names, classes.palette), "step": 0, "score": None}
    return checkpoint.save(folder, model, torch.optim.SGD(model.parameters(), lr=0.0), meta)


def _verify(written: Path, model: Segmentor, foreign: Foreign, golden: Golden | None, lines: list[str]) -> Result:
    """Holds what the disk gives back against the reference's answer, or else against what was to be written."""
    found = load_model(written, torch.device("cpu")).model
    if golden is not None:
        return Result(lines, golden.difference(found), f"the logits of {golden.path}")
    differences = [_difference(value, model.state_dict()[name]) for name, value in found.state_dict().items()]
    against = f"the tensors of {foreign.source.path}, as the folder gives them back (no --golden: no logits compared)"
    return Result(lines, max(differences), against)


def _difference(left: Tensor, right: Tensor) -> float:
    return float((left.double() - right.double()).abs().max())


def _lines(foreign: Foreign, config: RunConfig, classes: Classes) -> list[str]:
    counters = sum(name.endswith(COUNTER) for name in foreign.source.state)
    backbone, head, model = config.backbone, config.head, config.model
    loops = f", recurrence {head['recurrence']}" if "recurrence" in head else ""
    untold = "" if foreign.is_recurrence_told else " (not told by the file)"
    return [
        f"{len(foreign.source.state)} tensors, each in its place ({counters} of them counters of norms)",
        f"ResNet-{backbone['depth']} {backbone['variant']}, output stride {backbone['output_stride']}{loops}{untold}",
        f"input {model.channel_order.value}, mean {model.mean}, std {model.std}",
        f"align_corners {str(model.align_corners).lower()}, sliding windows {config.evaluation['crop_size']}",
        *foreign.notes,
        f"{len(classes.names)} classes, with names from {classes.origin}",
    ]


def _import_backbone(source: Source, order: Order) -> Result:
    """A weight file of a network whose head is none of ours."""
    for option, value in (("recurrence", order.recurrence), ("classes", order.classes), ("golden", order.golden)):
        if value is not None:
            raise ConfigError(f"--{option} has no effect: of {order.file} only the backbone can be imported")
    architecture, state, left_out = torchvision_segmentation.backbone_of(source)
    starts = sorted({name.split(".")[0] for name in left_out})
    with _aside(order.output) as folder:
        path = folder / "weights" / WEIGHTS
        path.parent.mkdir()
        path.write_bytes(safetensors.torch.save(state))
        found = safetensors.torch.load_file(path)
        difference = max(_difference(value, state[name]) for name, value in found.items())
        lines = [
            f"the backbone alone, {architecture}: {len(state)} tensors",
            f"left out: {len(left_out)} tensors of {', '.join(starts)}, which no head of ours has",
            f"use it with backbone={architecture} backbone.weights={order.output / WEIGHTS}",
        ]
        result = Result(lines, difference, f"the tensors of {source.path}, as {WEIGHTS} gives them back")
        if result.is_kept:
            path.parent.rename(order.output)
    return result


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """A folder on the same disk as the output, which is gone afterwards with all that is still in it."""
    try:
        with tempfile.TemporaryDirectory(prefix=".importing-", dir=output.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise CheckpointError(f"--output {output} could not be written ({error})") from error
