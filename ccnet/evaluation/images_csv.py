"""The scores of each image as a CSV that people, spreadsheets and programs read, and that gives the counts back."""

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ccnet.errors import DataError
from ccnet.evaluation.outcome import ImageScores
from ccnet.sealed_folder import read_plain_file, write_file

ABOUT = ["name", "mIoU", "aAcc", "loss", "digest"]
COUNTS = ["hits", "true", "predicted"]  # pixels of a class that are right, in the mask, and predicted
MOST_BYTES = 1 << 26  # 5000 images of 150 classes are 13 MB
MOST_CLASSES = 255  # 8-bit masks tell no more apart
MOST_DIGITS = 10  # of a count of pixels
DIGEST = re.compile(r"[0-9a-f]{64}")


def write_images(path: Path, images: Sequence[ImageScores], class_names: Sequence[str]) -> None:
    """A row per image: name, mIoU, aAcc and loss (0..1 and nats, empty where there is none), digest, and of each class
    `hits/CLASS`, `true/CLASS`, `predicted/CLASS` in pixels. The file is there whole or not at all.

    A name is data and is written as it is, whatever it begins with: a spreadsheet may take `=...` for a formula, so
    import the column as text.

    Args:
        path: of the file, in a folder that exists.
        images: in the order of the rows.
        class_names: one per class.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*ABOUT, *_columns(class_names)])
    for image in images:
        hits, true, _ = image.counts
        accuracy = hits.sum() / true.sum() if true.any() else math.nan
        means = (image.mean_iou, accuracy, image.loss)
        told = ["" if math.isnan(value) else repr(float(value)) for value in means]
        writer.writerow([image.name, *told, image.digest, *image.counts.T.ravel().tolist()])
    write_file(path, text.getvalue().encode(errors="surrogatepass"))  # a file's name need not be Unicode


def read_images(path: Path) -> tuple[list[ImageScores], list[str]]:
    """What `write_images` wrote: images and class names. mIoU and aAcc follow from the counts and are not read.

    Raises:
        DataError: no such file, or one that holds something else: file, line, what is wrong.
    """
    try:
        content = read_plain_file(path, MOST_BYTES).decode(errors="surrogatepass")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        if not content.endswith("\n"):
            raise ValueError("the file ends in the middle of a line")
        class_names = _class_names(next(rows))
        images = [_image(row, len(class_names)) for row in rows]
        if len({image.name for image in images}) < max(len(images), 1):
            raise ValueError("no image, or one that stands there twice")
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}; write it anew with tools/val.py") from None
    return images, class_names


def _columns(class_names: Sequence[str]) -> list[str]:
    return [f"{count}/{name}" for name in class_names for count in COUNTS]


def _class_names(header: Sequence[str]) -> list[str]:
    if len(header) > len(ABOUT) + len(COUNTS) * MOST_CLASSES:
        raise ValueError(f"{len(header)} columns are more than those of {MOST_CLASSES} classes")
    names = [column.removeprefix("hits/") for column in header[len(ABOUT) :: len(COUNTS)]]
    if header != [*ABOUT, *_columns(names)] or not names:
        raise ValueError(f"expected the columns {', '.join(ABOUT)}, then hits/, true/, predicted/ of each class")
    if len(set(names)) < len(names):
        raise ValueError("a class stands there twice")
    return names


def _image(row: Sequence[str], num_classes: int) -> ImageScores:
    if len(row) != len(ABOUT) + len(COUNTS) * num_classes:
        raise ValueError(f"{len(row)} columns, expected {len(ABOUT) + len(COUNTS) * num_classes}")
    name, _, _, loss, digest = row[: len(ABOUT)]
    if not DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:40]!r} is no SHA-256")
    counts = np.array([_count(cell) for cell in row[len(ABOUT) :]], dtype=np.int64).reshape(num_classes, -1).T
    hits, true, predicted = counts
    if (hits > np.minimum(true, predicted)).any():
        raise ValueError("more hits than pixels of the mask or the prediction")
    return ImageScores(name, counts, _loss(loss), digest)


def _count(cell: str) -> int:
    if not (cell.isascii() and cell.isdecimal()) or len(cell) > MOST_DIGITS:
        raise ValueError(f"{cell[:40]!r} is no number of pixels")
    return int(cell)


def _loss(cell: str) -> float:
    loss = float(cell) if cell else math.nan
    if cell and not 0 <= loss < math.inf:
        raise ValueError(f"{cell[:40]!r} is no loss")
    return loss
