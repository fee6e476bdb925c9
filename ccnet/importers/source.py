"""A foreign file as it is: tensors by its own names, and what it says about itself. None of it is trusted."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ccnet.errors import CheckpointError
from ccnet.models.backbones.weights import COUNTER, is_plain, plain_dict, read_file, unwrapped

PARALLEL = "module."
MOST_TIED = 2  # bytes of all tensors, of each byte of the file


class Inert:
    """Stands in for a class of the writer's: takes what the file hands it, keeps nothing, runs nothing."""

    def __init__(self, *arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


# What mmengine 0.x, mmcv 1.x and torchvision's scripts write beside the tensors. getattr is named for methods of
# HistoryBuffer.
STAND_INS: list[tuple[type, str]] = [
    *((Inert, f"mmengine.{name}") for name in (
        "logging.history_buffer.HistoryBuffer", "logging.message_hub.MessageHub", "config.config.Config",
        "config.lazy.LazyObject", "config.lazy.LazyAttr",
    )),
    *((Inert, f"numpy.{core}.multiarray.{name}") for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((Inert, name) for name in ("numpy.dtype", "numpy.ndarray", "builtins.getattr", "mmcv.utils.config.Config",
                               "argparse.Namespace")),
    *((OrderedDict, name) for name in (
        "mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "addict.addict.Dict",
    )),
]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A file's tensors, in float32 where they are floating, counters of norms in int64, and its `meta`; empty where it
    has none."""

    path: Path
    state: dict[str, Tensor]
    meta: Mapping[str, object]


def read_source(path: Path) -> Source:
    """Reads a .pth or .safetensors file, wrapped (`unwrapped`) or not, with `module.` before all or not.

    Raises:
        CheckpointError: no such file, one that names a class that is not known, what is no finite plain tensor, or many
            names of the same memory.
    """
    found = read_file(path, STAND_INS)
    contents = plain_dict(found)
    if contents is None:
        raise CheckpointError(f"{path}: expected a state dict, found {type(found).__name__}")
    state = unwrapped(contents)
    names = [_require_name(path, name) for name in state]
    prefix = PARALLEL if names and all(name.startswith(PARALLEL) for name in names) else ""
    tensors = {name.removeprefix(prefix): _plain(path, name, state[name]) for name in names}
    claimed, size = sum(value.nbytes for value in tensors.values()), path.stat().st_size
    if claimed > MOST_TIED * size:
        raise CheckpointError(f"{path}: its tensors share memory, and would take {claimed} bytes; the file has {size}")
    converted = {name: _converted(path, name, value) for name, value in tensors.items()}
    return Source(path, converted, plain_dict(contents.get("meta")) or {})


def _require_name(path: Path, name: object) -> str:
    if not isinstance(name, str):
        raise CheckpointError(f"{path}: expected names of tensors, found a {type(name).__name__}")
    return name


def _plain(path: Path, name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor) or not is_plain(value):
        raise CheckpointError(f"{path}: {name[:200]} is a {type(value).__name__}, and no plain tensor")
    return value.detach()


def _converted(path: Path, name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    if name.endswith(COUNTER):  # halved along with the weights; beyond 65504 they are infinite then
        return value.nan_to_num(0.0, 0.0, 0.0).long()
    value = value.float()
    if not torch.isfinite(value).all():
        raise CheckpointError(f"{path}: {name[:200]} holds numbers that are not finite in float32")
    return value
