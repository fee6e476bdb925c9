"""Files as other projects write them, small or on the meta device, and the modules that their writers had."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from ccnet.importers.source import Source
from ccnet.models.backbones.resnet import ResNet, Variant

State = dict[str, Tensor]


def norm(name: str, width: int) -> State:
    """A norm that has counted a batch."""
    sides = {part: torch.rand(width) + 0.5 for part in ("weight", "bias", "running_mean", "running_var")}
    return {
        **{f"{name}.{part}": value for part, value in sides.items()},
        f"{name}.num_batches_tracked": torch.tensor(1),
    }


def conv(name: str, out: int, width: int, kernel: int, bias: bool = False) -> State:
    """A convolution; random, of a size that keeps features about 1."""
    weight = torch.randn(out, width, kernel, kernel) / (width * kernel * kernel) ** 0.5
    return {f"{name}.weight": weight, **({f"{name}.bias": torch.randn(out)} if bias else {})}


def attention(name: str, channels: int) -> State:
    """Query, key and value."""
    eighth = channels // 8
    widths = {"query_conv": eighth, "key_conv": eighth, "value_conv": channels}
    return {
        key: value
        for part, out in widths.items()
        for key, value in conv(f"{name}.{part}", out, channels, 1, True).items()
    }


def backbone(depth: int, variant: Variant, prefix: str) -> State:
    """A backbone under their prefix."""
    network = ResNet(depth, variant=variant)  # type: ignore[arg-type]
    return {f"{prefix}{name}": value for name, value in network.state_dict().items()}


def mmseg_state(
    depth: int = 18, variant: Variant = "v1c", classes: int = 19, channels: int = 16, aux: bool = True
) -> State:
    """mmsegmentation's CCNet, with heads of few channels."""
    width = 512 if depth < 50 else 2048
    state = {
        **backbone(depth, variant, "backbone."),
        **conv("decode_head.conv_seg", classes, channels, 1, bias=True),
        **conv("decode_head.convs.0.conv", channels, width, 3),
        **norm("decode_head.convs.0.bn", channels),
        **conv("decode_head.convs.1.conv", channels, channels, 3),
        **norm("decode_head.convs.1.bn", channels),
        **conv("decode_head.conv_cat.conv", channels, width + channels, 3),
        **norm("decode_head.conv_cat.bn", channels),
        **attention("decode_head.cca", channels),
        "decode_head.cca.gamma.scale": torch.tensor(0.5),
    }
    if aux:
        state |= conv("auxiliary_head.conv_seg", classes, 8, 1, bias=True)
        state |= conv("auxiliary_head.convs.0.conv", 8, width // 2, 3) | norm("auxiliary_head.convs.0.bn", 8)
    return state


def official_state(depth: int = 50, classes: int = 19, channels: int = 16, aux: bool = True) -> State:
    """The official CCNet, as new as inplace_abn writes it."""
    state = {
        **backbone(depth, "ccnet", ""),
        **conv("head.conva.0", channels, 2048, 3),
        **norm("head.conva.1", channels),
        **attention("head.cca", channels),
        "head.cca.gamma": torch.tensor([0.5]),
        **conv("head.convb.0", channels, channels, 3),
        **norm("head.convb.1", channels),
        **conv("head.bottleneck.0", channels, 2048 + channels, 3),
        **norm("head.bottleneck.1", channels),
        **conv("head.bottleneck.3", classes, channels, 1, bias=True),
    }
    if aux:
        state |= conv("dsn.0", 8, 1024, 3, bias=True) | norm("dsn.1", 8) | conv("dsn.3", classes, 8, 1, bias=True)
    return state


def source(state: State, meta: dict[str, object] | None = None) -> Source:
    """A file that has been read."""
    return Source(Path("file.pth"), state, meta or {})


@contextmanager
def module(name: str, **members: type) -> Iterator[None]:
    """A module that the writer of a file has and its reader has not."""
    parts = [".".join(name.split(".")[: index + 1]) for index in range(name.count(".") + 1)]
    made = {part: ModuleType(part) for part in parts if part not in sys.modules}
    for key, member in members.items():
        member.__module__, member.__qualname__ = name, key
        setattr(made[name], key, member)
    sys.modules.update(made)
    try:
        yield
    finally:
        for part in made:
            del sys.modules[part]
