"""The training configuration that a file of mmsegmentation holds as text: Python, which is parsed and never run."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeGuard

from ccnet.errors import CheckpointError

MOST_TEXT = 1 << 18
MOST_PIXELS, MOST_INTENSITY = 4096, 1e5
# Of mmsegmentation's ResNet: what it has where its configuration does not say, and what ours has at output stride 8.
BACKBONE: Mapping[str, tuple[object, object]] = {
    "strides": ((1, 2, 2, 2), (1, 2, 1, 1)),
    "dilations": ((1, 1, 1, 1), (1, 1, 2, 4)),
    "style": ("pytorch", "pytorch"),
}
Settings = list[tuple[str, object]]


def settings_of(text: object) -> Settings:
    """Keys and plain values in their order; a nested dict(...) is a list of such pairs. Empty for what is no text."""
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        return []
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it is no configuration
        return []
    return list(_keywords(tree))


def _keywords(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.keyword) or node.arg is None:
            continue
        if isinstance(node.value, ast.Call):
            yield node.arg, [(each.arg, _literal(each.value)) for each in node.value.keywords]
        else:
            yield node.arg, _literal(node.value)


def _literal(node: ast.expr) -> object:
    """A list becomes a tuple: a list that `settings_of` gives is a nested dict(...)."""
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return tuple(value) if isinstance(value, list) else value


def windows(settings: Settings) -> list[str]:
    """Sliding windows, whose logits are averaged, where the test configuration has them."""
    for test in _nested(settings, "test_cfg"):
        if test.get("mode") == "slide" and _is_size(test.get("crop_size")) and _is_size(test.get("stride")):
            sizes = [f"evaluation.{name}={_text(test[name])}" for name in ("crop_size", "stride")]
            return ["evaluation=sliding_window", "evaluation.average=logits", *sizes]
    return []


def normalisation(path: Path, settings: Settings) -> list[str]:
    """Mean, standard deviation and order of the channels, as far as they are told. Pictures are read as BGR there.

    Raises:
        CheckpointError: they are told in two ways, or the channels are swapped the other way round.
    """
    means = {value for key, value in settings if key == "mean" and _is_color(value)}
    stds = {value for key, value in settings if key == "std" and _is_color(value, least=1e-6)}
    orders = {
        "rgb" if value else "bgr"
        for key, value in settings
        if key in ("bgr_to_rgb", "to_rgb") and isinstance(value, bool)
    }
    if ("rgb_to_bgr", True) in settings:
        raise CheckpointError(f"{path}: its configuration has rgb_to_bgr, for pictures that are not read as BGR")
    overrides = []
    for name, found in (("mean", means), ("std", stds), ("channel_order", orders)):
        if len(found) > 1:
            raise CheckpointError(f"{path}: its configuration normalises in more than one way: {name} {found}"[:500])
        overrides += [f"model.{name}={_text(value)}" for value in found]
    return overrides


def dilation(path: Path, settings: Settings) -> list[str]:
    """The dilation of the first blocks, where the backbone is told.

    Raises:
        CheckpointError: a backbone of another output stride or of another style than ours.
    """
    for backbone in _nested(settings, "backbone"):
        for name, (silent, ours) in BACKBONE.items():
            if (value := backbone.get(name, silent)) != ours:
                raise CheckpointError(f"{path}: its backbone has {name} {str(value)[:100]}; only {ours} is known here")
        return [f"backbone.contract_dilation={str(backbone.get('contract_dilation') is True).lower()}"]
    return []


def is_count(value: object, most: int, least: int = 0) -> TypeGuard[int]:
    """Whether a stranger's value is a whole number within bounds."""
    return type(value) is int and least <= value <= most


def _nested(settings: Settings, name: str) -> Iterator[dict[object, object]]:
    return (dict(value) for key, value in settings if key == name and isinstance(value, list))


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(is_count(side, MOST_PIXELS, 1) for side in value)


def _is_color(value: object, least: float = -MOST_INTENSITY) -> bool:
    if not isinstance(value, tuple) or len(value) != 3:
        return False
    return all(type(x) in (int, float) and least <= x <= MOST_INTENSITY for x in value)


def _text(value: object) -> str:
    """Of an override."""
    return str(list(value) if isinstance(value, tuple) else value)
