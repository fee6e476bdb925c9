"""Numbers of pixels, counted once per image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.data.class_pixels import class_pixels
from ccnet.data.folder import Folder


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
