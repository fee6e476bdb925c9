"""Reading samples, and every way in which a pair of files can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.sample import FilePair, SegmentationDataset, paired, read_image, read_mask
from ccnet.errors import DataError

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


def test_lonely_files_are_counted_and_listed(tmp_path: Path) -> None:
    """Oracle: the names left out on purpose."""
    images = {name: tmp_path / f"{name}.jpg" for name in ("a", "b", "c")}
    masks = {name: tmp_path / f"{name}.png" for name in ("b", "c", "d")}
    with pytest.raises(DataError, match=r"2 files without a partner: .*a.jpg has no mask; .*d.png has no image"):
        paired(images, masks, tmp_path)
    with pytest.raises(DataError, match="holds no images"):
        paired({}, {}, tmp_path)


def test_palette_and_names_agree() -> None:
    """Oracle: the count."""
    with pytest.raises(DataError, match="3 colours for 2 class names"):
        SegmentationDataset([], ["a", "b"], COLORS)


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    """Pillow would clip nearly all of them to white."""
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png has I;16 pixels; convert it to 8 bits"):
        read_image(tmp_path / "deep.png")
