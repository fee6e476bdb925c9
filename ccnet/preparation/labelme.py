"""LabelMe's annotations (github.com/wkentaro/labelme): a JSON file per image."""

from functools import partial
from pathlib import Path

from ccnet.data.folder import confined, visible_files
from ccnet.data.pairing import require_folder
from ccnet.errors import DataError
from ccnet.preparation.annotated_masks import BACKGROUND, AnnotatedImage, Shape
from ccnet.preparation.shapes import labelme_shape
from ccnet.preparation.untrusted_json import read_json, value_of

OWN_NAMES = {"_background_": BACKGROUND, "__ignore__": None}  # of LabelMe


def labelme_images(root: Path) -> list[AnnotatedImage]:
    """All annotations below a folder; the images lie where they say, which must be below it, too.

    Raises:
        DataError: no annotations, or one that is not what LabelMe writes, with its file and shape.
    """
    require_folder(root, "the folder of annotations", "name one that does")
    paths = [path for path in visible_files(root) if path.suffix == ".json"]
    if not paths:
        raise DataError(f"{root} holds no *.json")
    return [_read(path, root) for path in paths]


def _read(path: Path, root: Path) -> AnnotatedImage:
    content = read_json(path)
    image = confined(root, value_of(content, "imagePath", str, str(path)), start=path.parent)
    if not image.is_file():
        raise DataError(f"{path}: its image {image} does not exist; put it there")
    shapes = [
        _shape(shape, f"{path}: shape {number}")
        for number, shape in enumerate(value_of(content, "shapes", list, str(path)), start=1)
    ]
    height, width = (value_of(content, key, int, str(path)) for key in ("imageHeight", "imageWidth"))
    return AnnotatedImage(image, image.relative_to(root).as_posix(), (height, width), shapes)


def _shape(shape: object, where: str) -> Shape:
    label = value_of(shape, "label", str, where)
    return Shape(OWN_NAMES.get(label, label), partial(labelme_shape, shape, where=where), where)
