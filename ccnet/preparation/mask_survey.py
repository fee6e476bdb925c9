"""What the masks of a folder hold, read from all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from ccnet.data.mask_colors import color_codes
from ccnet.data.sample import IGNORE_INDEX, MASK_MODES, open_mask, stored_labels
from ccnet.errors import DataError

MOST_VALUES = 1000  # beyond them it is a photograph, or a mask that was blurred


@dataclass(frozen=True)
class MaskSurvey:
    """mask_format: as `Folder` takes it. pixels: their number by stored label, or by colour code; sorted.

    files: a mask that holds the label, for messages.
    """

    mask_format: Literal["index", "color"]
    pixels: Mapping[int, int]
    files: Mapping[int, Path]


def survey_masks(masks: Iterable[Path]) -> MaskSurvey:
    """Reads every mask, with a progress bar.

    Raises:
        DataError: a mask that cannot be read, index and colour masks side by side, masks of which some call 1 what
            others call 255, or more values than classes can be.
    """
    paths, pixels, files = sorted(masks), dict[int, int](), dict[int, Path]()
    one_bit: Path | None = None
    formats: dict[Literal["index", "color"], Path] = {}
    console = Console(stderr=True)
    for path in track(paths, "Reading masks", console=console, disable=not console.is_terminal):
        image = open_mask(path)
        formats.setdefault("index" if image.mode in MASK_MODES else "color", path)
        if len(formats) > 1:
            raise DataError(f"mask {formats['index']} holds indices and {formats['color']} colours; make them alike")
        counts = _counts(image, path)
        if image.mode == "1" and counts[-1][0] == 1:
            one_bit = path
        for value, count in counts:
            pixels[value] = pixels.get(value, 0) + count
            files.setdefault(value, path)
        if len(pixels) > MOST_VALUES:
            raise DataError(
                f"the masks up to {path} hold {len(pixels)} different values; masks have one per class: were they "
                "saved as JPEG once, or resized with interpolation?"
            )
    [mask_format] = formats
    if one_bit is not None and IGNORE_INDEX in pixels:
        raise DataError(
            f"mask {one_bit} has 1 bit a pixel and holds 1, and {files[IGNORE_INDEX]} holds 255; save all as 8-bit"
        )
    return MaskSurvey(mask_format, {value: pixels[value] for value in sorted(pixels)}, files)


def _counts(image: Image.Image, path: Path) -> list[tuple[int, int]]:
    """(stored label or colour code, pixels) of a mask, sorted."""
    if image.mode in MASK_MODES:
        counts = np.bincount(stored_labels(image, path).ravel())
        return [(int(value), int(counts[value])) for value in counts.nonzero()[0]]
    values, counts = np.unique(color_codes(image, path), return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))
