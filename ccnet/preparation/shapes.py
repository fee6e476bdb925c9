"""Annotated shapes -> masks. What an annotation says is not trusted: every number of it is checked here."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from ccnet.errors import DataError
from ccnet.preparation.untrusted_json import value_of

Inside = NDArray[np.bool_]  # (H, W): whether a pixel belongs to the shape
Point = tuple[float, float]  # x, y in pixels


def polygon(points: Sequence[Point], size: tuple[int, int]) -> Inside:
    """The pixels in or on a polygon; size is (H, W)."""
    return _drawn(size, lambda draw: draw.polygon(points, fill=1, outline=1))


def labelme_shape(shape: Any, size: tuple[int, int], where: str) -> Inside:
    """A shape of LabelMe: polygon, rectangle, circle (centre and a point of the rim) or mask.

    Args:
        shape: as it stands in the file.
        size: (H, W) of the image.
        where: file and shape, for messages.

    Raises:
        DataError: another kind of shape, or one that makes no sense.
    """
    points = checked_points(value_of(shape, "points", list, where), size, where)
    kind = value_of(shape, "shape_type", str, where) if shape.get("shape_type") else "polygon"  # old files leave it out
    least = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}.get(kind)
    if least is None:
        raise DataError(f"{where}: a {kind} has no area; draw it as a polygon or delete it")
    if len(points) < least or (kind != "polygon" and len(points) != least):
        raise DataError(f"{where}: a {kind} of {len(points)} points; it needs {least}")
    if kind == "polygon":
        return polygon(points, size)
    (x0, y0), (x1, y1) = points
    if kind == "circle":
        radius = math.dist(*points)
        return _drawn(size, lambda draw: draw.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), fill=1))
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if kind == "rectangle":
        return _drawn(size, lambda draw: draw.rectangle(box, fill=1))
    return _pasted(value_of(shape, "mask", str, where), (round(box[0]), round(box[1])), size, where)


def checked_points(values: Sequence[Any], size: tuple[int, int], where: str) -> list[Point]:
    """[[x, y], ...] as points; they may lie outside the image, but not by more than its size.

    Raises:
        DataError: something else, or a point far away.
    """
    height, width = size
    points = []
    for value in values:
        if not isinstance(value, list) or len(value) != 2 or not all(type(number) in (int, float) for number in value):
            raise DataError(f"{where}: {str(value)[:40]} is no point; expected [x, y]")
        x, y = value
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):  # NaN is refused, too
            raise DataError(f"{where}: the point {x}, {y} lies far outside the image of {width}x{height} pixels")
        points.append((float(x), float(y)))
    return points


def run_lengths(rle: Any, size: tuple[int, int], where: str) -> Inside:
    """COCO's run-length code: lengths of runs of 0 and 1 in turn, down the columns; as a list or packed into text.

    Raises:
        DataError: another size than the image's, or runs that do not fill it.
    """
    if value_of(rle, "size", list, where) != list(size):
        raise DataError(f"{where}: runs for a size of {rle['size']}, the image is {list(size)} (height, width)")
    counts = rle.get("counts")
    runs = _unpacked(counts, where) if isinstance(counts, str) else counts
    total = size[0] * size[1]
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= total for run in runs):
        raise DataError(f"{where}: 'counts' must be the lengths of runs, or these as text")
    if sum(runs) != total:
        raise DataError(f"{where}: the runs have {sum(runs)} pixels, the image {total}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size[1], size[0]).T


def _unpacked(text: str, where: str) -> list[int]:
    """COCO's text form: five bits a letter from '0' on, the lowest first, bit 5 where more follow, bit 4 the sign of
    the last; from the fourth on, a run is stored as its difference to the one two before (cocoapi, maskApi.c)."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise DataError(f"{where}: 'counts' is no run-length code of COCO")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits >> 4 & 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError(f"{where}: 'counts' ends in the middle of a number")
    return runs


def _drawn(size: tuple[int, int], draw_on: Callable[[ImageDraw.ImageDraw], None]) -> Inside:
    canvas = Image.new("1", (size[1], size[0]))
    draw_on(ImageDraw.Draw(canvas))
    return np.asarray(canvas)


def _pasted(encoded: str, corner: tuple[int, int], size: tuple[int, int], where: str) -> Inside:
    """A mask shape: a small PNG as text, whose upper left pixel lies at the corner (x, y)."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)), formats=["PNG"]) as picture:
            if picture.width > size[1] or picture.height > size[0]:
                raise DataError(f"{where}: a mask of {picture.width}x{picture.height} pixels does not fit the image")
            canvas = Image.new("1", (size[1], size[0]))
            canvas.paste(Image.fromarray(np.asarray(picture.convert("L")) > 0), corner)  # LabelMe's own are of 0 and 1
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: the mask cannot be decoded ({error})") from None
    return np.asarray(canvas)
