"""Reading samples, and every way in which a pair of files can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.context_probe import ContextProbe
from ccnet.data.mask_colors import ColorMasks
from ccnet.data.sample import (
    FilePair,
    SegmentationDataset,
    read_image,
    read_mask,
    read_stored,
    require_labels,
    sample_files,
)
from ccnet.errors import ConfigError, DataError
from ccnet.preparation.mask_survey import survey_masks
from tests.data.malformed import png

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def dataset_of(tmp_path: Path, image: np.ndarray, mask: np.ndarray | Image.Image) -> SegmentationDataset:
    Image.fromarray(image).save(tmp_path / "image.png")
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(tmp_path / "mask.png")
    return SegmentationDataset(
        [FilePair("one", tmp_path / "image.png", tmp_path / "mask.png")], ["a", "b", "c"], COLORS
    )


def test_a_sample_is_what_was_written(tmp_path: Path) -> None:
    """Oracle: the arrays before they were saved."""
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    mask = np.array([[0, 1, 2, 255, 0]] * 4, dtype=np.uint8)
    sample = dataset_of(tmp_path, image, mask)[0]
    assert np.array_equal(sample["image"], image)
    assert np.array_equal(sample["mask"], mask)
    assert (sample["image"].dtype, sample["mask"].dtype, sample["name"]) == (np.uint8, np.uint8, "one")


def test_palette_masks_are_read_as_indices(tmp_path: Path) -> None:
    """Oracle: the indices; converting to grey would give luminances."""
    indices = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    mask = Image.fromarray(indices)
    mask.putpalette([200, 30, 40] * 256)
    sample = dataset_of(tmp_path, np.zeros((1, 4, 3), np.uint8), mask)[0]
    assert np.array_equal(sample["mask"], indices)


def test_sixteen_bit_masks_do_not_wrap(tmp_path: Path) -> None:
    """300 would wrap to 44 in eight bits."""
    mask = np.array([[0, 1, 300]], dtype=np.uint16)
    dataset = dataset_of(tmp_path, np.zeros((1, 3, 3), np.uint8), mask)
    with pytest.raises(DataError, match="label 300"):
        dataset[0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((4, 5), 3, np.uint8), r"mask.png holds label 3; the data set has classes 0..2 and 255"),
        (np.zeros((4, 6), np.uint8), r"mask.png is 6x4 pixels and its image .*image.png 5x4"),
        (np.zeros((4, 5, 3), np.uint8), r"mask.png holds RGB colours; expected one 8- or 16-bit class index"),
    ],
)
def test_wrong_masks_are_named(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    """Oracle: the message, written out."""
    dataset = dataset_of(tmp_path, np.zeros((4, 5, 3), np.uint8), mask)
    with pytest.raises(DataError, match=message):
        dataset[0]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    """OpenCV would hand out a grey rest."""
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"cut.{suffix} cannot be decoded"):
        read_image(path)


def test_no_image_at_all_is_named(tmp_path: Path) -> None:
    """A text with an image's name, an empty file, and no file."""
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "empty.png"):
        with pytest.raises(DataError, match=f"{name} is not an image"):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match=r"gone.png: no such file"):
        read_mask(tmp_path / "gone.png")


def test_exif_orientation_turns_the_image(tmp_path: Path) -> None:
    """Oracle: numpy's rotation; orientation 6 means a quarter turn clockwise."""
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Oracle: Pillow's own conversion."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / "image.tiff"
    picture.save(path)
    assert np.array_equal(read_image(path), np.asarray(picture.convert("RGB")))


def test_palette_and_names_agree() -> None:
    """Oracle: the count."""
    with pytest.raises(DataError, match="3 colours for 2 class names"):
        SegmentationDataset([], ["a", "b"], COLORS)


@pytest.mark.parametrize(
    ("names", "palette", "message"),
    [
        (["a", "b"], [[300, 0, 0], [0, 0, 0]], r"dataset\.palette: \[300, 0, 0\] is no colour"),
        (["a", "b"], [[0, 0, 0], [0, 0]], r"dataset\.palette: \[0, 0\] is no colour"),
        (["a", "b", "a"], COLORS, r"dataset\.class_names has a twice"),
    ],
)
def test_classes_that_cannot_be_told_apart_or_painted_are_refused(
    names: list[str], palette: list[list[int]], message: str
) -> None:
    """Before a run, not at its first report. Oracle: the message, written out."""
    with pytest.raises(ConfigError, match=message):
        SegmentationDataset([], names, palette)


def test_labels_are_read_without_the_image(tmp_path: Path) -> None:
    """Oracle: the mask of the sample, and then the same although the image is gone; without a mask, the error."""
    dataset = dataset_of(tmp_path, np.zeros((2, 2, 3), np.uint8), np.array([[0, 255], [1, 2]], np.uint8))
    mask = dataset[0]["mask"]
    (tmp_path / "image.png").unlink()
    assert np.array_equal(dataset.labels(0), mask)
    with pytest.raises(DataError, match=r"image.png has no mask"):
        SegmentationDataset([FilePair("one", tmp_path / "image.png", None)], ["a"], [(0, 0, 0)]).labels(0)


def test_messages_call_a_sample_by_its_file_or_number(tmp_path: Path) -> None:
    """Oracle: the path; a data set that is drawn has none."""
    files = SegmentationDataset([FilePair("one", tmp_path / "image.png", None)], ["a"], [(0, 0, 0)])
    assert sample_files(files, 0) == str(tmp_path / "image.png")
    assert sample_files(ContextProbe("val"), 5) == "sample 5"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_upper_half_of_sixteen_bits_is_taken(suffix: str, tmp_path: Path) -> None:
    """Pillow's own conversion would clip nearly all of them to white. Oracle: NumPy; Pillow's reader of 16-bit colours,
    which have the same values in each channel."""
    deep = np.random.default_rng(0).integers(0, 65536, (4, 5), dtype=np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(deep).save(path)
    found = read_image(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.repeat(deep[..., None] // 256, 3, axis=2))
    colors = np.repeat(deep[..., None], 3, axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in colors)
    (tmp_path / "colors.png").write_bytes(png(5, 4, color=2, depth=16, data=rows))
    assert np.array_equal(read_image(tmp_path / "colors.png"), found)


def test_depths_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    """8-bit values in 16 bits would become black; of 32 bits nobody knows the range. All black is black."""
    for value, suffix, message in (
        (np.uint16(255), "png", r"deep.png has 16-bit grey of at most 255 out of 65535, which would be black; save it"),
        (np.int32(7), "tif", r"deep.tif has 32-bit I pixels of unknown range; save it with 8 or 16 bits a channel"),
        (np.float32(7), "tif", r"deep.tif has 32-bit F pixels"),
    ):
        Image.fromarray(np.full((4, 4), value)).save(tmp_path / f"deep.{suffix}")
        with pytest.raises(DataError, match=message):
            read_image(tmp_path / f"deep.{suffix}")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "black.png")
    assert read_image(tmp_path / "black.png").max() == 0


@pytest.mark.parametrize("depth", [2, 4])
def test_shallow_grey_masks_are_refused_and_images_read(tmp_path: Path, depth: int) -> None:
    """Pillow scales them to 0..255, as an image wants it. Oracle: the message, and the scaled pixels."""
    path, largest = tmp_path / "mask.png", 2**depth - 1
    path.write_bytes(png(8 // depth, 1, color=0, depth=depth, data=bytes([0, largest << 8 - depth])))
    for read in (read_stored, ColorMasks(((0, 0, 0),))):
        with pytest.raises(DataError, match=rf"mask.png is {depth}-bit grey, which readers scale; save it as 8-bit"):
            read(path)
    assert read_image(path)[0, :, 0].tolist() == [255, *[0] * (8 // depth - 1)]


@pytest.mark.parametrize("mode", ["LA", "I", "F"])
def test_masks_of_other_modes_get_one_remedy(tmp_path: Path, mode: str) -> None:
    """As indices, as colours and in a survey. Oracle: the message, written out."""
    path = tmp_path / "mask.tiff"
    Image.new(mode, (2, 2)).save(path)
    for read in (read_stored, ColorMasks(((0, 0, 0),)), lambda mask: survey_masks([mask])):
        with pytest.raises(DataError, match=rf"mask.tiff is {mode}; save it as 8- or 16-bit index PNG"):
            read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_jpeg_is_no_mask(tmp_path: Path, suffix: str) -> None:
    """Its labels change along every border; the name of the file does not matter."""
    path = tmp_path / f"mask.{suffix}"
    Image.new("L", (8, 8)).save(path, format="JPEG")
    with pytest.raises(DataError, match=rf"mask.{suffix} is a JPEG, which changes labels; make it again as PNG"):
        read_mask(path)


@pytest.mark.parametrize(
    ("mode", "dtype"), [("L", np.uint8), ("P", np.uint8), ("1", np.uint8), ("I;16", np.uint16), ("I;16B", np.uint16)]
)
def test_masks_of_every_mode_keep_their_labels(tmp_path: Path, mode: str, dtype: type[np.unsignedinteger]) -> None:
    """Oracle: zeros and ones."""
    labels = np.eye(5, dtype=np.uint16 if mode.startswith("I") else np.uint8)
    if mode.startswith("I"):
        picture = Image.frombytes(mode, labels.shape, labels.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    else:
        picture = Image.fromarray(labels * (255 if mode == "1" else 1)).convert(mode)
        if mode == "P":
            picture.putdata(labels.ravel().tolist())
    picture.save(tmp_path / "mask.tiff")
    stored = read_stored(tmp_path / "mask.tiff")
    assert (stored.dtype, stored.tolist()) == (dtype, labels.tolist())
    assert read_mask(tmp_path / "mask.tiff").dtype == np.int64


def test_images_without_masks_are_ignored_everywhere_and_cannot_be_learnt(tmp_path: Path) -> None:
    """A split for prediction. Oracle: 255 in every pixel; the message, written out."""
    Image.new("RGB", (3, 2)).save(tmp_path / "image.png")
    dataset = SegmentationDataset([FilePair("one", tmp_path / "image.png", None)], ["a"], [(0, 0, 0)])
    assert dataset[0]["mask"].tolist() == [[255] * 3] * 2
    assert not dataset.labelled
    with pytest.raises(DataError, match="the split test has no labels to train on or to evaluate with"):
        require_labels(dataset, "test")
    require_labels(dataset_of(tmp_path, np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.uint8)), "val")
