"""COCO's annotations (cocodataset.org, instances): one JSON file for all images."""

from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from ccnet.data.folder import confined
from ccnet.data.pairing import require_folder
from ccnet.errors import DataError
from ccnet.preparation.annotated_masks import AnnotatedImage, Shape
from ccnet.preparation.shapes import Inside, checked_points, polygon, run_lengths
from ccnet.preparation.untrusted_json import read_json, value_of


def coco_images(path: Path, images: Path) -> list[AnnotatedImage]:
    """All images that a file lists, with the shapes of their annotations; of two that overlap the smaller is on top.

    Args:
        path: the JSON file.
        images: the folder that its file names start from.

    Raises:
        DataError: not what COCO's files hold, with file and annotation, or an image that is missing.
    """
    require_folder(images, "the folder of images", "name one with --images")
    content = read_json(path)
    categories = value_of(content, "categories", list, str(path))
    labels = {
        value_of(entry, "id", int, f"{path}: categories"): value_of(entry, "name", str, f"{path}: categories")
        for entry in categories
    }
    if len(set(labels.values())) < len(categories):
        raise DataError(f"{path}: two categories have one name or id")
    shapes: dict[int, list[Shape]] = defaultdict(list)
    for number, entry in enumerate(value_of(content, "annotations", list, str(path)), start=1):
        where = f"{path}: annotation {number}"
        label = labels.get(value_of(entry, "category_id", int, where))
        if label is None:
            raise DataError(f"{where}: there is no category {entry['category_id']}")
        outline = partial(_segmentation, entry.get("segmentation"), where=where)
        shapes[value_of(entry, "image_id", int, where)].append(Shape(label, outline, where))
    listed = value_of(content, "images", list, str(path))
    ids = Counter(value_of(entry, "id", int, f"{path}: image {number}") for number, entry in enumerate(listed, start=1))
    if len(ids) < len(listed):
        raise DataError(f"{path}: two images have the id {ids.most_common(1)[0][0]}")
    found = [_image(entry, f"{path}: image {number}", images, shapes) for number, entry in enumerate(listed, start=1)]
    if shapes:
        raise DataError(f"{next(iter(shapes.values()))[0].where}: there is no image {next(iter(shapes))}")
    return found


def _image(entry: Any, where: str, images: Path, shapes: dict[int, list[Shape]]) -> AnnotatedImage:
    """Takes the image's shapes out of `shapes`."""
    file = confined(images, value_of(entry, "file_name", str, where))
    if not file.is_file():
        raise DataError(f"{where}: {file} does not exist; name the folder of the images with --images")
    height, width = (value_of(entry, key, int, where) for key in ("height", "width"))
    own = shapes.pop(value_of(entry, "id", int, where), [])
    return AnnotatedImage(file, file.relative_to(images).as_posix(), (height, width), own, smaller_on_top=True)


def _segmentation(segmentation: Any, size: tuple[int, int], where: str) -> Inside:
    """Polygons [[x, y, x, y, ...], ...], or an object of run lengths."""
    if isinstance(segmentation, dict):
        return run_lengths(segmentation, size, where)
    if not isinstance(segmentation, list) or not segmentation:
        raise DataError(f"{where}: it has no segmentation; a box alone gives no mask")
    inside = _part(segmentation[0], size, where)
    for part in segmentation[1:]:
        inside = inside | _part(part, size, where)
    return inside


def _part(numbers: Any, size: tuple[int, int], where: str) -> Inside:
    if not isinstance(numbers, list) or len(numbers) < 6 or len(numbers) % 2:
        raise DataError(f"{where}: a polygon must be a list x, y, x, y, ... of at least three points")
    return polygon(
        checked_points([list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)], size, where), size
    )
