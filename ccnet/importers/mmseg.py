"""Checkpoints of mmsegmentation's CCNet, 0.x and 1.x, on a ResNet of output stride 8.

`meta` holds the text of the training configuration, in Python: it is parsed, never run. What it does not tell is as in
the configurations of mmsegmentation's repository.
"""

import ast
from collections.abc import Iterator
from typing import TypeGuard

from ccnet.data.sample import IGNORE_INDEX
from ccnet.importers.foreign import Foreign, Told, auxiliary_overrides
from ccnet.importers.source import Source
from ccnet.importers.translation import Names, resnet_depth, width_of

DEFAULT_RECURRENCE = 2
MOST_TEXT = 1 << 18
MOST_LOOPS, MOST_PIXELS = 64, 4096
NAMES = Names(
    {
        "backbone.": "backbone.",
        "decode_head.convs.0.conv.": "head.reduction.0.",
        "decode_head.convs.0.bn.": "head.reduction.1.",
        "decode_head.cca.": "head.attention.",
        "decode_head.cca.gamma.scale": "head.attention.gamma",
        "decode_head.convs.1.conv.": "head.fusion.context.0.",
        "decode_head.convs.1.bn.": "head.fusion.context.1.",
        "decode_head.conv_cat.conv.": "head.fusion.convs.0.0.",
        "decode_head.conv_cat.bn.": "head.fusion.convs.0.1.",
        "decode_head.conv_seg.": "head.classifier.",
        "auxiliary_head.convs.0.conv.": "auxiliary_head.conv.0.",
        "auxiliary_head.convs.0.bn.": "auxiliary_head.conv.1.",
        "auxiliary_head.conv_seg.": "auxiliary_head.classifier.",
    }
)


def read(source: Source, recurrence: int | None) -> Foreign:
    """The network of a file.

    Args:
        source: the file.
        recurrence: in place of what its configuration says.

    Raises:
        CheckpointError: it is another network.
    """
    settings = list(_settings(source.meta.get("cfg", source.meta.get("config"))))
    loops = [value for key, value in settings if key == "recurrence" and _is_count(value, MOST_LOOPS)]
    align = [value for key, value in settings if key == "align_corners" and isinstance(value, bool)]
    if recurrence is None:
        recurrence = next(iter(loops), DEFAULT_RECURRENCE)
    overrides = [
        "+experiment=cityscapes_r2",
        "backbone=resnet50",
        f"backbone.variant={_variant(source)}",
        f"backbone.depth={resnet_depth(source, 'backbone.')}",
        f"head.channels={width_of(source, 'decode_head.convs.0.conv.weight')}",
        f"head.recurrence={recurrence}",
        f"model.align_corners={str(any(align)).lower()}",
        *_windows(settings),
        *auxiliary_overrides(source, "auxiliary_head.convs.0.conv.weight"),
    ]
    note = "align_corners as its configuration says" if align else "align_corners untold: true if trained at 769x769"
    classes = _classes(source)
    return Foreign(
        source, overrides, NAMES, width_of(source, "decode_head.conv_seg.weight", IGNORE_INDEX), classes, [note]
    )


def _variant(source: Source) -> str:
    if "backbone.stem.0.weight" not in source.state:
        return "plain"
    return "v1c" if "backbone.layer2.0.downsample.0.weight" in source.state else "v1d"


def _classes(source: Source) -> Told:
    about = source.meta.get("dataset_meta")
    if isinstance(about, dict):  # 1.x
        return Told(about.get("classes"), about.get("palette"))
    return Told(source.meta.get("CLASSES"), source.meta.get("PALETTE"))


def _settings(text: object) -> Iterator[tuple[str, object]]:
    """Keys and plain values of a configuration's text, in their order; a nested dict(...) is a list of such pairs."""
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it is no configuration
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.keyword) or node.arg is None:
            continue
        if isinstance(node.value, ast.Call):
            yield node.arg, [(each.arg, _literal(each.value)) for each in node.value.keywords]
        else:
            yield node.arg, _literal(node.value)


def _literal(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return value


def _windows(settings: list[tuple[str, object]]) -> list[str]:
    """Sliding windows, whose logits are averaged, where the test configuration has them."""
    for key, value in settings:
        test = dict(value) if key == "test_cfg" and isinstance(value, list) else {}
        if test.get("mode") == "slide" and _is_size(test.get("crop_size")) and _is_size(test.get("stride")):
            sizes = [f"evaluation.{name}={list(test[name])}" for name in ("crop_size", "stride")]
            return ["evaluation=sliding_window", "evaluation.average=logits", *sizes]
    return []


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_count(side, MOST_PIXELS, 1) for side in value)


def _is_count(value: object, most: int, least: int = 0) -> TypeGuard[int]:
    return type(value) is int and least <= value <= most
