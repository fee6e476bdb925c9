"""Annotated images -> a folder of images/, masks/ and classes.txt, as `prepare_data.py folder` takes it."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ccnet.data.folder import IMAGE_SUFFIXES
from ccnet.data.sample import IGNORE_INDEX, read_image
from ccnet.data.voc import voc_color
from ccnet.errors import DataError
from ccnet.preparation.class_file import read_class_file
from ccnet.preparation.published_folder import published_folder, refuse_existing
from ccnet.preparation.shapes import Inside
from ccnet.visualize import index_png

BACKGROUND = "background"


@dataclass(frozen=True)
class Shape:
    """label: a class name, or None where pixels are to be ignored. draw: (H, W) of the image -> its pixels."""

    label: str | None
    draw: Callable[[tuple[int, int]], Inside]
    where: str


@dataclass(frozen=True)
class AnnotatedImage:
    """image: its file. name: of the file below images/, with extension. size: (H, W) as annotated.

    shapes: later ones lie on top of earlier ones, or smaller ones on larger ones.
    """

    image: Path
    name: str
    size: tuple[int, int]
    shapes: Sequence[Shape]
    smaller_on_top: bool = False


def write_annotated(
    images: Sequence[AnnotatedImage],
    output: Path,
    classes: Path | None = None,
    ignore_rest: bool = False,
    overwrite: bool = False,
) -> list[str]:
    """Writes output/{images,masks}/NAME and output/classes.txt: whole or not at all.

    Args:
        images: what to write.
        output: the folder.
        classes: a file of class names in their order; None for all labels by the alphabet.
        ignore_rest: pixels outside of all shapes are ignored; else they are the class background, which comes first
            where `classes` does not name it.
        overwrite: whether a folder that this function made may be replaced.

    Returns:
        The class names.

    Raises:
        DataError: nothing to write, a label without a class, two images of one name, or a size that is not the
            annotated one.
    """
    refuse_existing(output, overwrite)
    names = _class_names(images, classes, ignore_rest)
    _refuse_equal_names(images)
    console, palette = Console(stderr=True), [voc_color(index) for index in range(IGNORE_INDEX)]
    with published_folder(output, overwrite=overwrite) as aside:
        for entry in track(images, "Drawing masks", console=console, disable=not console.is_terminal):
            mask = _mask_of(entry, names)
            image_path, mask_path = aside / "images" / entry.name, (aside / "masks" / entry.name).with_suffix(".png")
            for path in (image_path, mask_path):
                path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry.image, image_path)
            index_png(mask, palette).save(mask_path)
        (aside / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8", newline="\n")
    return names


def _class_names(images: Sequence[AnnotatedImage], classes: Path | None, ignore_rest: bool) -> list[str]:
    used = {shape.label: shape.where for entry in images for shape in entry.shapes if shape.label is not None}
    names = sorted(used.keys() - {BACKGROUND}) if classes is None else list(read_class_file(classes).names)
    if BACKGROUND not in names and (BACKGROUND in used or not ignore_rest):
        names.insert(0, BACKGROUND)
    if unknown := used.keys() - set(names):
        label = min(unknown)
        raise DataError(f"{used[label]}: the label '{label}' is no class in {classes}; add it there")
    if not 1 <= len(names) <= IGNORE_INDEX or not images:
        raise DataError(f"{len(images)} annotated images of {len(names)} classes; there must be 1 to {IGNORE_INDEX}")
    for name in names:
        if not name.strip() or not name.isprintable() or name.startswith("#") or ":" in name or "${" in name:
            raise DataError(f"{used.get(name, classes)}: '{name[:40]}' cannot be the name of a class")
    return names


def _refuse_equal_names(images: Sequence[AnnotatedImage]) -> None:
    for entry in images:
        if PurePosixPath(entry.name).suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(
                f"{entry.image} is no image by its extension; known are {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
    counts = Counter(PurePosixPath(entry.name).with_suffix("").as_posix() for entry in images)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise DataError(f"{len(twice)} names stand for two images, such as {twice[0]}; rename one of them")


def _mask_of(entry: AnnotatedImage, names: Sequence[str]) -> NDArray[np.uint8]:
    size = read_image(entry.image).shape[:2]
    if size != entry.size:
        raise DataError(
            f"{entry.image} is {size[1]}x{size[0]} pixels and was annotated at {entry.size[1]}x{entry.size[0]}; "
            "use the images that were annotated"
        )
    shapes = entry.shapes
    if entry.smaller_on_top:  # each is drawn twice: all of them at once may not fit into memory
        shapes = sorted(shapes, key=lambda shape: -int(shape.draw(size).sum()))
    mask = np.full(size, names.index(BACKGROUND) if BACKGROUND in names else IGNORE_INDEX, dtype=np.uint8)
    for shape in shapes:
        mask[shape.draw(size)] = IGNORE_INDEX if shape.label is None else names.index(shape.label)
    return mask
