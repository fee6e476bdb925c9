"""What every backbone with every head costs, without computing anything: tensors have a size but no data."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ccnet.benchmarks.operations import operation_counter
from ccnet.benchmarks.training_memory import CLASSES, AllocatedBytes
from ccnet.build import build_part
from ccnet.config import compose_config
from ccnet.config_errors import CONFIG_DIR
from ccnet.errors import ConfigError
from ccnet.json_file import write_rows
from ccnet.models.backbones.timm_features import TimmFeatures, timm_weights
from ccnet.models.backbones.weights import torchvision_weights
from ccnet.models.segmentor import Preprocess
from ccnet.schema import Part

LEGEND = """\
parameters  of backbone and head, without the auxiliary head, which only trains
operations  of one image in evaluation, two per multiply-add of convolutions and products
memory      estimated peak for one image in float32: weights, image, features and temporaries; workspaces (on the CPU
            half as much again) and the upsampling of the logits come on top
weights     what backbone.weights takes beside null"""


@dataclass(frozen=True)
class ModelRow:
    """A backbone with a head, as their YAML files have them.

    Attributes:
        backbone, head: the names of the files.
        output_stride: of the backbone.
        parameters: number of them, in both.
        operations: two per multiply-add.
        memory: peak in bytes.
        weights: pretrained weights of the backbone by tag.
    """

    backbone: str
    head: str
    output_stride: int
    parameters: int
    operations: int
    memory: int
    weights: tuple[str, ...]


def choices(group: str, pattern: str) -> list[str]:
    """The YAML files of a group whose names match a glob pattern.

    Raises:
        ConfigError: there is none.
    """
    every = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    chosen = [name for name in every if fnmatch(name, pattern)]
    if not chosen:
        raise ConfigError(f"no {group} matches {pattern}; there are {', '.join(every)}")
    return chosen


def model_rows(size: tuple[int, int], backbones: Sequence[str], heads: Sequence[str]) -> Iterator[ModelRow]:
    """The costs of each backbone with each head, for images of `size` (height, width) and 19 classes.

    Says on stderr what it is at. A backbone that cannot be built here (timm is not installed) is left out there.
    """
    head_parts = {name: compose_config([f"head={name}"]).head for name in heads}
    for number, name in enumerate(backbones, start=1):
        print(f"[{number}/{len(backbones)}] {name}", file=sys.stderr)
        try:
            yield from _rows_of(name, head_parts, size)
        except ConfigError as error:
            print(f"left out: {error}", file=sys.stderr)


def _rows_of(name: str, head_parts: Mapping[str, Part], size: tuple[int, int]) -> list[ModelRow]:
    rows = []
    with FakeTensorMode(), torch.no_grad():
        preprocess, backbone = Preprocess(), build_part(compose_config([f"backbone={name}"]).backbone).eval()
        given = {"in_channels": backbone.out_channels, "num_classes": CLASSES}
        heads = {head: build_part(part, **given).eval() for head, part in head_parts.items()}
        with AllocatedBytes() as allocated, operation_counter() as counter:
            features = backbone(preprocess(torch.zeros(1, 3, *size, dtype=torch.uint8)))
            peak, operations = allocated.peak, counter.get_total_flops()
            for head_name in head_parts:
                head = heads.pop(head_name)  # the one before is gone, and what it kept
                allocated.peak, before = allocated.now, counter.get_total_flops()
                head(features)
                rows.append(
                    ModelRow(
                        name,
                        head_name,
                        backbone.output_stride,
                        sum(each.numel() for part in (backbone, head) for each in part.parameters()),
                        operations + counter.get_total_flops() - before,
                        max(peak, allocated.peak) + _bytes(backbone) + _bytes(head),
                        pretrained_weights(backbone),
                    )
                )
    return rows


def _bytes(module: nn.Module) -> int:
    return sum(each.nbytes for each in (*module.parameters(), *module.buffers()))


def pretrained_weights(backbone: nn.Module) -> tuple[str, ...]:
    """The tags that `backbone.weights` takes; none for a backbone that says nothing of its architecture."""
    if isinstance(backbone, TimmFeatures):
        return tuple(timm_weights(backbone.name))
    architecture = getattr(backbone, "architecture", None)  # ours say it; another's need not
    return tuple(torchvision_weights(architecture)) if architecture else ()


def print_table(rows: Iterable[ModelRow]) -> list[ModelRow]:
    """Prints the rows as they come, under a heading per backbone, and returns them."""
    printed = []
    print(LEGEND)
    for _, group in groupby(rows, key=lambda row: row.backbone):
        for number, row in enumerate(group):
            if number == 0:
                weights = ", ".join([*row.weights, "a file"])
                print(f"\n{row.backbone}: output stride {row.output_stride}; weights: {weights}")
            millions, billions, mebibytes = row.parameters / 1e6, row.operations / 1e9, row.memory / 2**20
            print(f"  {row.head:<20}{millions:>9.2f} M parameters{billions:>10.1f} G operations{mebibytes:>9.0f} MiB")
            printed.append(row)
    return printed


def write_json(path: Path, rows: Iterable[ModelRow]) -> None:
    """Writes a list of rows, one per line; the file is there whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    write_rows(path, map(asdict, rows))
