"""The files of a prediction: their pixels, their place, and that they are whole or not there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.errors import ConfigError, DataError
from ccnet.prediction import results as module
from ccnet.prediction.asking import Prediction
from ccnet.prediction.results import Results, class_indices
from tests.prediction.conftest import PALETTE

NAMES = ["dark", "bright"]
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
MASK = (np.arange(54).reshape(6, 9) % 2).astype(np.uint8)
PREDICTION = Prediction(MASK, MASK + 200, np.stack([1 - MASK, MASK]).astype(np.float16))


def test_every_kind(tmp_path: Path) -> None:
    """Oracle: NumPy's indexing of the palette and its mean of image and colour; Pillow reads the files."""
    results = Results(tmp_path, NAMES, PALETTE, opacity=0.25, confidence=True, probabilities=True)
    assert not results.complete("sub/a.jpg")
    results.write("sub/a.jpg", IMAGE, PREDICTION)
    assert results.complete("sub/a.jpg")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    pictures = ("mask", "color", "overlay", "confidence")
    assert files == {*(f"{kind}/sub/a.jpg.png" for kind in pictures), "probabilities/sub/a.jpg.npz"}
    mask, color, overlay, confidence = (Image.open(tmp_path / kind / "sub/a.jpg.png") for kind in pictures)
    expected = np.array(PALETTE)[MASK]
    assert (mask.mode, confidence.mode) == ("P", "L")
    assert np.array_equal(np.asarray(mask), MASK)
    assert np.array_equal(np.asarray(color), expected)
    assert np.array_equal(np.asarray(mask.convert("RGB")), expected)
    assert np.abs(np.asarray(overlay) - (0.75 * IMAGE + 0.25 * expected)).max() <= 0.5001
    assert np.array_equal(np.asarray(confidence), MASK + 200)
    with np.load(tmp_path / "probabilities/sub/a.jpg.npz", allow_pickle=False) as archive:
        assert archive["probabilities"].dtype == np.float16
        assert np.array_equal(archive["probabilities"], PREDICTION.probabilities)
        assert archive["class_names"].tolist() == NAMES


def test_classes_that_are_not_asked_for(tmp_path: Path) -> None:
    """Oracle: 255 in the mask, black, and the image itself; probabilities stay as they are."""
    results = Results(tmp_path, NAMES, PALETTE, opacity=1.0, classes=[1], probabilities=True)
    results.write("a.png", IMAGE, PREDICTION)
    mask, color, overlay = (np.asarray(Image.open(tmp_path / kind / "a.png.png")) for kind in
                            ("mask", "color", "overlay"))  # fmt: skip
    assert np.array_equal(mask, np.where(MASK == 1, 1, 255))
    assert np.array_equal(color, np.where(MASK[..., None] == 1, PALETTE[1], 0))
    assert np.array_equal(overlay, np.where(MASK[..., None] == 1, PALETTE[1], IMAGE))
    with np.load(tmp_path / "probabilities/a.png.npz") as archive:
        assert len(archive["probabilities"]) == 2


def test_names_of_classes() -> None:
    """Oracle: the indices; the message with the nearest name."""
    assert class_indices(["bright", "dark"], NAMES) == [1, 0]
    with pytest.raises(ConfigError, match=r"--classes: the model knows no class 'brihgt'; did you mean bright\?"):
        class_indices(["brihgt"], NAMES)
    with pytest.raises(ConfigError, match="'x'; there are: dark, bright"):
        class_indices(["x"], NAMES)


@pytest.mark.skipif(os.name == "nt", reason="links")
@pytest.mark.parametrize("place", ["mask", "mask/sub", "mask/sub/deeper"])
def test_links_that_lead_elsewhere_are_refused(place: str, tmp_path: Path) -> None:
    """Oracle: the message, and an untouched folder. The output itself may be a link, and links within it may stay."""
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (output / place).parent.mkdir(parents=True)
    (output / place).symlink_to(elsewhere)
    with pytest.raises(DataError, match=r"leads out of .*out by a link"):
        Results(output, NAMES, PALETTE).write("sub/deeper/deepest/a.png", IMAGE, PREDICTION)
    assert list(elsewhere.iterdir()) == []
    (output / place).unlink()
    (output / "real").mkdir()
    (output / place).symlink_to(output / "real")
    (tmp_path / "alias").symlink_to(output)
    Results(tmp_path / "alias", NAMES, PALETTE).write("sub/deeper/deepest/a.png", IMAGE, PREDICTION)
    assert list((output / "real").rglob("*.png"))
    (output / "color" / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"a.png.png cannot be written"):
        Results(output, NAMES, PALETTE).write("loop/a.png", IMAGE, PREDICTION)


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    """Oracle: what the link leads to, for the result and for the file that is written aside."""
    (tmp_path / "mask").mkdir()
    (tmp_path / "precious").write_text("mine")
    for name in ("a.png.png", ".a.png.png.part"):
        (tmp_path / "mask" / name).symlink_to(tmp_path / "precious")
    Results(tmp_path, NAMES, PALETTE).write("a.png", IMAGE, PREDICTION)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "mask/a.png.png").is_symlink()


def test_what_is_removed(tmp_path: Path) -> None:
    """Oracle: the files that are left, whatever kinds are written now; names that no file can have are no error."""
    full = Results(tmp_path, NAMES, PALETTE, confidence=True, probabilities=True)
    for name in ("a.png", "b.png"):
        full.write(name, IMAGE, PREDICTION)
    for name in ("a.png", "gone.png", "b.png.png/c.png", "x" * 300):
        Results(tmp_path, NAMES, PALETTE).remove(name)
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == ["b.png.npz", *["b.png.png"] * 4]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_nothing_is_removed_behind_a_link(tmp_path: Path) -> None:
    """Oracle: the file, which lies outside the output folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.png.png").touch()
    (tmp_path / "out/mask").symlink_to(tmp_path / "elsewhere")
    Results(tmp_path / "out", NAMES, PALETTE).remove("a.png")
    assert (tmp_path / "elsewhere/a.png.png").exists()


def fails_with(number: int) -> Callable[..., Path]:
    def replace(self: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    return replace


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, OSError), (errno.EACCES, OSError), (errno.EROFS, OSError), (errno.ENAMETOOLONG, DataError)],
)
def test_a_file_is_whole_or_as_it_was(
    number: int, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the bytes before; nothing is left beside them; a name that is too long is that image's own fault."""
    results = Results(tmp_path, NAMES, PALETTE)
    results.write("a.png", IMAGE, PREDICTION)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(module.Path, "replace", fails_with(number))
    with pytest.raises(expected):
        results.write("a.png", IMAGE, Prediction(1 - MASK))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_file_in_the_place_of_a_folder_is_that_images_fault(tmp_path: Path) -> None:
    """Oracle: the message."""
    (tmp_path / "mask").mkdir()
    (tmp_path / "mask" / "sub").touch()
    with pytest.raises(DataError, match=r"a.png.png cannot be written"):
        Results(tmp_path, NAMES, PALETTE).write("sub/a.png", IMAGE, PREDICTION)
