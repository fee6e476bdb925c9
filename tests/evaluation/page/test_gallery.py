"""The embedded pictures, decoded again."""

from dataclasses import replace

import numpy as np
import pytest

from ccnet.evaluation.outcome import Picture
from ccnet.evaluation.page import gallery as rooms
from ccnet.evaluation.page.gallery import gallery
from ccnet.visualize import ERROR_COLOR
from tests.evaluation.page.cases import Page

PALETTE = [(200, 30, 30), (30, 30, 200)]


def halves(name: str = "one", height: int = 32, width: int = 64) -> Picture:
    """Left class 0, right class 1, which is taken for 0 in the lower half; the first rows ignored; a green image."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 2 :] = 1
    prediction = mask.copy()
    prediction[height // 2 :] = 0
    mask[: height // 8] = 255
    return Picture(name, np.full((height, width, 3), (20, 160, 60), np.uint8), mask, prediction)


def test_four_pictures_of_an_image() -> None:
    """Oracle: the colour at the middle of each quarter, as far as JPEG keeps it; caption, name and score."""
    page = Page(gallery([halves()], PALETTE, {"one": 0.375}))
    pictures = page.pictures()
    assert list(pictures) == ["input of one", "truth of one", "prediction of one", "error of one"]
    assert page.words("figcaption") == ["input", "truth", "prediction", "error"]
    assert (page.words("bdi"), page.words("span")) == (["1. one"], ["mIoU 37.5"])
    gray = round(0.299 * 20 + 0.587 * 160 + 0.114 * 60)
    pale = (255 - (255 - gray) // 3,) * 3
    red, blue = PALETTE
    expected = {  # upper left, upper right, lower left, lower right
        "input": [(20, 160, 60)] * 4,
        "truth": [red, blue, red, blue],
        "prediction": [red, blue, red, red],
        "error": [pale, pale, pale, ERROR_COLOR],
    }
    for kind, colors in expected.items():
        seen = [pictures[f"{kind} of one"][y, x].astype(int) for y in (9, 24) for x in (16, 48)]
        assert np.abs(np.array(seen) - colors).max() <= 12, kind
    assert pictures["error of one"][1, 5].max() <= 12


def test_large_pictures_become_small_and_keep_their_shape() -> None:
    """Oracle: 640 pixels on the longer side at most, the colours at the same places; small ones stay as they are."""
    wide = Page(gallery([halves(height=500, width=2000)], PALETTE, {"one": 0.5})).pictures()
    assert {picture.shape for picture in wide.values()} == {(160, 640, 3)}
    assert np.abs(wide["truth of one"][100, 480].astype(int) - PALETTE[1]).max() <= 12
    tall = Page(gallery([halves(height=3000, width=2)], PALETTE, {"one": 0.5})).pictures()
    assert {picture.shape for picture in tall.values()} == {(640, 1, 3)}
    small = Page(gallery([halves()], PALETTE, {"one": 0.5})).pictures()
    assert {picture.shape for picture in small.values()} == {(32, 64, 3)}


def test_classes_are_never_mixed() -> None:
    """Oracle: no green between red class 0 and blue class 2, however the picture is scaled."""
    mask = np.zeros((500, 1999), np.uint8)
    mask[:, 1001:] = 2
    picture = Picture("one", np.zeros((500, 1999, 3), np.uint8), mask, mask)
    found = Page(gallery([picture], [(200, 30, 30), (30, 250, 30), (30, 30, 200)], {"one": 0.5})).pictures()
    assert found["truth of one"][..., 1].max() < 100
    assert found["prediction of one"][..., 1].max() < 100


def test_a_gallery_that_is_too_large_takes_smaller_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: noise, which JPEG cannot make small: the largest width of the list whose gallery is within the bound."""
    noise = np.random.default_rng(0).integers(0, 256, (160, 640, 3), dtype=np.uint8)
    picture = replace(halves(height=160, width=640), image=noise)
    scores = {"one": 0.5}
    whole = gallery([picture], PALETTE, scores)
    monkeypatch.setattr(rooms, "MOST_CHARACTERS", len(whole) - 1)
    smaller = gallery([picture], PALETTE, scores)
    assert {shape.shape for shape in Page(smaller).pictures().values()} == {(120, 480, 3)}
    monkeypatch.setattr(rooms, "MOST_CHARACTERS", 0)
    assert {shape.shape for shape in Page(gallery([picture], PALETTE, scores)).pictures().values()} == {(40, 160, 3)}


@pytest.mark.long
def test_twenty_large_images_of_noise() -> None:
    """Oracle: the bound of the page, 10 MB, for the worst that can be."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, high, (1024, 2048, *rest), dtype=np.uint8) for high, *rest in ((256, 3), (2,), (2,))]
    pictures = [Picture(str(index), *noise) for index in range(20)]
    assert len(gallery(pictures, PALETTE, {str(index): 0.5 for index in range(20)})) <= rooms.MOST_CHARACTERS
