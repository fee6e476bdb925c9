"""Numbers of pixels, counted once per image."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.data.class_pixels import class_pixels
from ccnet.data.folder import Folder
from ccnet.errors import DataError


@pytest.fixture
def dataset(folder: Path) -> Folder:
    """Three images with two classes, of different sizes, and a third class that none of them has."""
    for path in ("images/train/2.png", "masks/train/2.png"):
        Image.open(folder / path).resize((30, 20), Image.Resampling.NEAREST).save(folder / path)
    return Folder(str(folder), "train", ["dark", "bright", "never"], [[0, 0, 0], [255, 255, 255], [9, 9, 9]])


def test_every_valid_pixel_counts_once(dataset: Folder, folder: Path) -> None:
    """Oracle: NumPy on the mask files."""
    masks = [np.asarray(Image.open(path)) for path in (folder / "masks/train").iterdir()]
    expected = [sum(int((mask == label).sum()) for mask in masks) for label in range(3)]
    assert expected[2] == 0
    assert class_pixels(dataset).tolist() == expected


@pytest.mark.parametrize("world_size", [2, 5])
def test_ranks_share_the_images(dataset: Folder, world_size: int) -> None:
    """Oracle: one rank's count; some ranks may have no image."""
    shares = [class_pixels(dataset, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert torch.equal(torch.stack(shares).sum(0), class_pixels(dataset))


def test_only_the_first_rank_shows_progress(dataset: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: stderr."""
    class_pixels(dataset, rank=1, world_size=2)
    assert capsys.readouterr().err == ""
    class_pixels(dataset)
    assert "counting label pixels" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 1])
def test_no_image_is_read(dataset: Folder, workers: int) -> None:
    """Oracle: the count before all images are damaged."""
    expected = class_pixels(dataset)
    for pair in dataset.pairs:
        pair.image.write_bytes(pair.image.read_bytes()[:60])
    assert torch.equal(class_pixels(dataset, workers=workers), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_masks_that_cannot_be_read_are_left_out_where_training_skips_them(
    dataset: Folder, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the count of the others, and the log; an error by default, and where there are too many."""
    bad = str(dataset.pairs[1].mask)
    expected = sum(np.bincount(dataset.labels(index).ravel(), minlength=256)[:3] for index in (0, 2))
    Path(bad).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"1\.png is not an image"):
        class_pixels(dataset, workers=workers)
    with caplog.at_level(logging.WARNING, "ccnet"):
        assert class_pixels(dataset, workers=workers, on_bad_sample="skip").tolist() == expected.tolist()
    [line] = caplog.messages
    assert line.startswith(f"left out 1 of 3 training images: {bad}")
    Path(str(dataset.pairs[0].mask)).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"2 of 3 training images cannot be read .* allows 1: "):
        class_pixels(dataset, workers=workers, on_bad_sample="skip")
