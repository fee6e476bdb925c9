"""Names of another implementation's tensors, and ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ccnet.errors import CheckpointError
from ccnet.importers.source import Source
from ccnet.models.backbones.weights import COUNTER

OWN = "preprocess."  # what no other implementation keeps with its weights
MOST_LISTED = 6
# Blocks of the four stages, and the convolutions of each: depth.
DEPTHS: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2, 2): 18,
    (3, 4, 6, 3, 2): 34,
    (3, 4, 6, 3, 3): 50,
    (3, 4, 23, 3, 3): 101,
    (3, 8, 36, 3, 3): 152,
}
MOST_BLOCKS = 64


@dataclass(frozen=True)
class Names:
    """Beginnings of names: theirs -> ours. The longest that fits counts."""

    pairs: Mapping[str, str]

    def ours(self, theirs: str) -> str | None:
        """Our name of a tensor; None where we know none."""
        return _replaced(theirs, self.pairs)

    def theirs(self, ours: str) -> str:
        """Their name of a tensor of ours."""
        return _replaced(ours, {value: key for key, value in self.pairs.items()}) or ours


def _replaced(name: str, pairs: Mapping[str, str]) -> str | None:
    found = max((start for start in pairs if name.startswith(start)), key=len, default=None)
    return None if found is None else pairs[found] + name[len(found) :]


def translated(source: Source, names: Names, model: nn.Module) -> dict[str, Tensor]:
    """The state of our model, which may be on the meta device, from theirs: every tensor of both is accounted for.

    Only the counters of norms may be missing, and are zero then. A single number may be a vector of one.

    Raises:
        CheckpointError: tensors that are missing, unexpected, or of another shape or kind, by their names.
    """
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(OWN)}
    problems, state = [], {}
    for name, value in source.state.items():
        ours = names.ours(name)
        if ours is None or ours not in own or ours in state:
            problems.append(f"unexpected {name[:200]}")
            continue
        shape = own[ours].shape
        state[ours] = value.reshape(shape) if value.numel() == shape.numel() == 1 else value
        if state[ours].shape != shape:
            problems.append(f"{name} is {tuple(value.shape)}, not {tuple(shape)}")
        elif value.is_floating_point() != own[ours].is_floating_point():
            problems.append(f"{name} is {value.dtype}, not {own[ours].dtype}")
    problems += [f"missing {names.theirs(name)}" for name in own if name not in state and not name.endswith(COUNTER)]
    if problems:
        raise misfit(source.path, problems)
    return {name: state.get(name, torch.zeros((), dtype=torch.int64)) for name in own}


def misfit(path: Path, problems: list[str]) -> CheckpointError:
    """What does not fit, in one line."""
    more = f"; and {len(problems) - MOST_LISTED} more" if len(problems) > MOST_LISTED else ""
    return CheckpointError(f"{path} is not what was told: {'; '.join(problems[:MOST_LISTED])}{more}")


def width_of(source: Source, name: str, most: int = 4096) -> int:
    """The first side of a tensor, on which the others depend.

    Raises:
        CheckpointError: no such tensor, or one that is wider than any in use.
    """
    value = source.state.get(name)
    if value is None or value.ndim == 0:
        raise misfit(source.path, [f"missing {name}"])
    if not 0 < len(value) <= most:
        raise misfit(source.path, [f"{name} is {tuple(value.shape)}, which no network here can be"])
    return len(value)


def resnet_depth(source: Source, prefix: str = "") -> int:
    """The depth of the ResNet whose stages are `prefix`layer1 to layer4.

    Raises:
        CheckpointError: it has other blocks than any.
    """
    blocks = [_count(source, f"{prefix}layer{stage}.", MOST_BLOCKS, ".conv1.weight") for stage in (1, 2, 3, 4)]
    convs = _count(source, f"{prefix}layer1.0.conv", 4, ".weight")
    depth = DEPTHS.get((*blocks, convs))
    if depth is None:
        listed = ", ".join(map(str, blocks))
        raise misfit(source.path, [f"{prefix}layer1 to layer4 have {listed} blocks of {convs} convolutions"])
    return depth


def _count(source: Source, start: str, most: int, end: str) -> int:
    return sum(f"{start}{index}{end}" in source.state for index in range(most))
