"""Images of any colour mode as RGB of 8 bits, for training and prediction alike."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccnet.errors import DataError


def as_rgb(image: Image.Image, what: str) -> NDArray[np.uint8]:
    """A decoded image of any colour mode -> uint8 (H, W, 3); transparency is dropped.

    Of 16 bits the upper eight are taken, v // 256, which is what Pillow does with the channels of 16-bit colours.

    Args:
        image: of any mode.
        what: what messages call it.

    Raises:
        DataError: 32-bit numbers, whose range is unknown, or 16-bit grey that uses so little of its range that it would
            become black.
    """
    if image.mode.startswith("I;16"):
        deep = np.asarray(image)
        if 0 < deep.max() < 256:
            raise DataError(
                f"{what} has 16-bit grey of at most {deep.max()} out of 65535, which would be black; save it as 8-bit"
            )
        return np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{what} has 32-bit {image.mode} pixels of unknown range; save it with 8 or 16 bits a channel")
    if "transparency" in image.info:  # Pillow would warn that it drops it
        image = image.copy()
        del image.info["transparency"]
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
