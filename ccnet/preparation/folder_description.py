"""A folder's masks -> the arguments of `Folder` that read them, and these as YAML."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccnet.data.mask_colors import color_of
from ccnet.data.sample import IGNORE_INDEX
from ccnet.data.voc import voc_color
from ccnet.errors import DataError
from ccnet.preparation.class_file import ClassFile
from ccnet.preparation.mask_survey import MaskSurvey

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Description:
    """Arguments of `Folder`, and the share of the labelled pixels that each class has.

    color_masks: whether the palette's colours stand in the masks. label_map: None where labels are classes.
    """

    class_names: list[str]
    palette: list[Rgb]
    shares: list[float]
    color_masks: bool = False
    ignore_color: Rgb | None = None
    label_map: dict[int, int] | None = None


def describe(survey: MaskSurvey, classes: ClassFile | None, binary: bool, ignore_color: Rgb | None) -> Description:
    """Decides what the labels mean.

    Args:
        survey: what the masks hold.
        classes: names, where a file tells them; else the classes are called class_LABEL.
        binary: 0 is background and 255 is foreground.
        ignore_color: of colour masks.

    Raises:
        DataError: labels without a class, or options that do not fit the masks.
    """
    if survey.mask_format == "color":
        if binary:
            raise DataError("--binary is for masks of 0 and 255; these hold colours")
        return _describe_colors(survey, classes, ignore_color)
    if ignore_color is not None:
        raise DataError("--ignore-color is for masks that hold colours; these hold indices")
    names, class_of = _binary(survey, classes) if binary else _indices(survey, classes)
    palette = classes.colors if classes and classes.colors else [voc_color(index) for index in range(len(names))]
    label_map = None if all(label == index for label, index in class_of.items()) else class_of
    return Description(names, palette, _shares(survey, class_of, len(names)), label_map=label_map)


def to_yaml(root: Path, description: Description) -> str:
    """A file for configs/dataset. JSON's lists and texts are YAML, too."""
    lines = [
        "# Made by tools/prepare_data.py; names may be changed, the order of the classes is that of the labels.",
        "_target_: ccnet.data.folder.Folder",
        f"root: {json.dumps(root.as_posix(), ensure_ascii=False)}",
        f"class_names: {json.dumps(description.class_names, ensure_ascii=False)}",
        f"palette: {json.dumps(description.palette)}",
    ]
    if description.color_masks:
        lines.append("mask_format: color # the masks hold the palette's colours")
    if description.ignore_color is not None:
        lines.append(f"ignore_color: {json.dumps(description.ignore_color)}")
    if description.label_map is not None:
        entries = ", ".join(f"{label}: {index}" for label, index in description.label_map.items())
        lines.append(f"label_map: {{{entries}}}")
    return "\n".join(lines) + "\n"


def _binary(survey: MaskSurvey, classes: ClassFile | None) -> tuple[list[str], dict[int, int]]:
    if survey.pixels.keys() != {0, IGNORE_INDEX}:
        raise DataError(f"--binary is for masks of 0 and 255; these hold {_listed(survey.pixels)}")
    if classes is not None and len(classes.names) != 2:
        raise DataError(f"{classes.path} names {len(classes.names)} classes; binary masks have two")
    return ["background", "foreground"] if classes is None else classes.names, {0: 0, IGNORE_INDEX: 1}


def _indices(survey: MaskSurvey, classes: ClassFile | None) -> tuple[list[str], dict[int, int]]:
    if survey.pixels.keys() == {0, IGNORE_INDEX}:
        raise DataError(
            "the masks hold 0 and 255 only, and 255 means ignored, which leaves one class; "
            "if 255 is the foreground, add --binary"
        )
    labels = [label for label in survey.pixels if label != IGNORE_INDEX]
    if classes is None:
        if not 1 <= len(labels) <= IGNORE_INDEX:
            raise DataError(f"the masks hold {len(labels)} labels beside 255; there must be 1 to {IGNORE_INDEX}")
        return [f"class_{label}" for label in labels], {label: index for index, label in enumerate(labels)}
    beyond = [label for label in labels if label >= len(classes.names)]
    if beyond:
        raise DataError(
            f"mask {survey.files[beyond[0]]} holds label {beyond[0]}; {classes.path} names {len(classes.names)} "
            f"classes, 0..{len(classes.names) - 1}"
        )
    return classes.names, {index: index for index in range(len(classes.names))}


def _describe_colors(survey: MaskSurvey, classes: ClassFile | None, ignore_color: Rgb | None) -> Description:
    colors = [color for color in map(color_of, survey.pixels) if color != ignore_color]
    names = [f"class_{index}" for index in range(len(colors))]
    if classes is not None:
        if not classes.colors:
            raise DataError(f"the masks hold colours; {classes.path} must tell each class's, as name:red,green,blue")
        unknown = sorted(set(colors) - set(classes.colors))
        if unknown:
            path = next(survey.files[code] for code in survey.files if color_of(code) == unknown[0])
            raise DataError(
                f"mask {path} holds the colour {_listed(unknown)}, which is no class in {classes.path}; "
                "add it there, or say --ignore-color R,G,B"
            )
        names, colors = classes.names, list(classes.colors)
    if not 1 <= len(colors) <= IGNORE_INDEX:
        raise DataError(f"the masks hold {len(colors)} colours; there must be 1 to {IGNORE_INDEX}, one per class")
    class_of = {code: colors.index(color_of(code)) for code in survey.pixels if color_of(code) != ignore_color}
    return Description(names, colors, _shares(survey, class_of, len(names)), True, ignore_color)


def _shares(survey: MaskSurvey, class_of: dict[int, int], num_classes: int) -> list[float]:
    pixels = [0] * num_classes
    for label, index in class_of.items():
        pixels[index] += survey.pixels.get(label, 0)
    return [count / max(sum(pixels), 1) for count in pixels]


def _listed(values: Iterable[object]) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
