"""Every colour mode becomes RGB of 8 bits; the files of such images are read in test_sample.py."""

import numpy as np
from PIL import Image

from ccnet.data.rgb import as_rgb


def test_transparency_is_dropped_and_the_image_left_as_it_was() -> None:
    """Oracle: the colours below it; the caller's own image keeps what it says about it."""
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.info["transparency"] = 0
    assert as_rgb(picture, "it").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert picture.info["transparency"] == 0
    see_through = Image.fromarray(np.array([[[1, 2, 3, 0], [4, 5, 6, 255]]], np.uint8))
    assert as_rgb(see_through, "it").tolist() == [[[1, 2, 3], [4, 5, 6]]]
