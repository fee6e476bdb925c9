"""Layers put into a finished network, by the names of its modules."""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from typing import Any, Literal

from torch import nn

from ccnet.errors import ConfigError
from ccnet.models.attention.forms import Kind, Preset, make_attention
from ccnet.models.attention.probe import shapes

Mode = Literal["after", "replace"]

INSERTED = "inserted_attention"  # what stands in the names of all inserted parameters


def insert_attention(
    model: nn.Module,
    at: str | Sequence[str],
    kind: Kind = "dual",
    mode: Mode = "after",
    *,
    preset: Preset | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    reduction: int | None = None,
    dropout: float | None = None,
    residual: bool = False,
) -> list[str]:
    """Puts attention into any network, in place: `insert_attention(torchvision.models.vgg16(), "features.28")`.

    Args:
        model: as it was built, its pretrained weights loaded; none of its parameters is touched.
        at: where; as for `insert_layers`.
        kind, preset, alpha, beta, reduction, dropout, residual: as for `make_attention`.
        mode: as for `insert_layers`.

    Returns:
        The names of the modules that have attention now.

    Raises:
        ConfigError: as `insert_layers` and `make_attention` say.
    """
    make = partial(
        make_attention,
        kind=kind,
        preset=preset,
        alpha=alpha,
        beta=beta,
        reduction=reduction,
        dropout=dropout,
        residual=residual,
    )
    return insert_layers(model, at, make, mode)


def insert_layers(
    model: nn.Module, at: str | Sequence[str], make: Callable[[int], nn.Module], mode: Mode = "after"
) -> list[str]:
    """Puts layers that keep the shape of their input behind modules of a network, or in place of them.

    New parameters are called `<module>.inserted_attention.*`, train whatever else is frozen, and have the device and
    number format of what they follow; behind an nn.Sequential they belong to its last module. With `after` all other
    names stay, so that the plain network's weights still load (`strict=False`, for the new ones are not among them);
    with `replace` those of the replaced modules are gone.

    Args:
        model: changed in place.
        at: glob, or globs, over the dotted names of modules. `*` stands for anything within one part of a name:
            `layer*.1` is the second block of every stage, and nothing inside of these blocks.
        make: channels -> layer.
        mode: after or replace, which needs modules that keep the shape themselves.

    Returns:
        The names of the modules found, in the network's order.

    Raises:
        ConfigError: a glob that matches nothing, a module that gives anything but one (B, C, H, W) tensor or does not
            run on one, one that cannot be replaced or has a layer already, or channels that `make` refuses. The
            network is then as it was.
    """
    if mode not in ("after", "replace"):
        raise ConfigError(f"attention.mode must be after or replace, got {mode}")
    layers = {name: _layer(model, name, make, mode) for name in _places(model, [at] if isinstance(at, str) else at)}
    _refuse_overlap(model, list(layers), mode)
    for name, layer in layers.items():
        if mode == "after":
            attach(model.get_submodule(name), layer)
        else:
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.Sequential(OrderedDict({INSERTED: layer})))
    return list(layers)


def attach(module: nn.Module, layer: nn.Module) -> None:
    """From now on a module gives what the layer makes of its output: `attach(fpn, PyramidFusion([256] * 5))`.

    The layer becomes the child `inserted_attention`, called by a forward hook: copies, saved modules,
    DistributedDataParallel, torch.compile and torch.export keep both. Of an nn.Sequential the last module takes it.

    Args:
        module: changed in place; one that runs all of its children in a loop would run the new one in it, too.
        layer: takes what the module gives, whatever that is.

    Raises:
        ValueError: it has such a layer already, or is a container that has no output or makes it in a way of its own.
    """
    last = _last(module)
    last.add_module(INSERTED, layer)
    last.register_forward_hook(_call_inserted)


def _last(module: nn.Module) -> nn.Module:
    """Whose output that of the module is. A network may run an nn.Sequential module by module instead of calling it."""
    while type(module).forward is nn.Sequential.forward and len(children := list(module.children())):
        module = children[-1]
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
        raise ValueError(f"{type(module).__name__} is run module by module; name a module inside of it")
    if hasattr(module, INSERTED):
        raise ValueError("a layer has been inserted there before")
    return module


def _call_inserted(module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
    return module.get_submodule(INSERTED)(output)


def _places(model: nn.Module, globs: Sequence[str]) -> list[str]:
    """Names that match, each module once."""
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    found: dict[int, str] = {}
    for glob in globs:
        matching = {id(module): name for name, module in modules.items() if _matches(name, glob)}
        if not matching:
            near = difflib.get_close_matches(glob.rstrip(".*"), modules, n=3) or dict(model.named_children())
            raise ConfigError(
                f"attention.at={glob} names no module of {type(model).__name__}; nearest are {', '.join(near)}"
            )
        found |= matching
    return [name for name in modules if name in found.values()]


def _refuse_overlap(model: nn.Module, names: Sequence[str], mode: Mode) -> None:
    """Raises:
    ConfigError: two names that mean the same place, or one that is gone once another is replaced.
    """
    for index, name in enumerate(names):
        for inner in names[index + 1 :]:
            same = mode == "after" and _last(model.get_submodule(name)) is _last(model.get_submodule(inner))
            if same or (mode == "replace" and inner.startswith(f"{name}.")):
                raise ConfigError(f"attention.at names {name} and {inner}, which ends or lies inside of it; name one")


def _matches(name: str, glob: str) -> bool:
    parts, globs = name.split("."), glob.split(".")
    return len(parts) == len(globs) and all(map(fnmatchcase, parts, globs))


def _layer(model: nn.Module, name: str, make: Callable[[int], nn.Module], mode: Mode) -> nn.Module:
    """The layer for a place, which is held against what `attach` and the mode need."""
    module = model.get_submodule(name)
    try:
        if mode == "after":
            _last(module)
        before, after = shapes(model, name)
        if mode == "replace" and before != after:
            raise ValueError(
                f"{type(module).__name__} makes {_shape(after)} of {_shape(before)}, and what replaces it must keep "
                "the shape; name a module that keeps it, or use mode=after"
            )
        layer = make(after[1])
    except ValueError as error:
        raise ConfigError(f"attention.at={name}: {error}") from error
    like = next(chain(module.parameters(), model.parameters()))
    return layer.to(like.device, like.dtype).train(module.training)


def _shape(size: Sequence[int]) -> str:
    return "x".join(map(str, size[1:]))
