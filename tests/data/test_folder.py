"""Anyone's folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.folder import Folder, image_files
from ccnet.errors import DataError

TWO_CLASSES = {"class_names": ["dark", "bright"], "palette": [(0, 0, 0), (255, 255, 255)]}


def test_images_and_masks_meet_by_name(folder: Path) -> None:
    """Oracle: what the fixture wrote: two classes and an ignored margin."""
    dataset = Folder(str(folder), "train", **TWO_CLASSES)
    assert [pair.name for pair in dataset.pairs] == ["0", "1", "2"]
    assert np.unique(dataset[0]["mask"]).tolist() == [0, 1, 255]


def test_sub_folders_are_part_of_the_name(tmp_path: Path) -> None:
    """Oracle: the relative path without extension."""
    for path in ("a/x.jpg", "b/x.jpg"):
        (tmp_path / path).parent.mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / path)
    assert list(image_files(tmp_path)) == ["a/x", "b/x"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """x.jpg and x.png would share a mask."""
    for name in ("x.jpg", "x.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    with pytest.raises(DataError, match="would have the same name"):
        image_files(tmp_path)


def test_missing_parts_are_named(folder: Path) -> None:
    """Oracle: the path that is missing."""
    with pytest.raises(DataError, match=r"images/test does not exist"):
        Folder(str(folder), "test", **TWO_CLASSES)
    (folder / "masks/val/1.png").unlink()
    with pytest.raises(DataError, match=r"1.png has no mask"):
        Folder(str(folder), "val", **TWO_CLASSES)


def test_camvid_is_read_in_place(camvid: Path) -> None:
    """Oracle: the counts and sizes of its description; its labels lie in the declared classes."""
    from ccnet import build
    from ccnet.config import compose_config

    config = compose_config(["dataset=camvid", f"dataset.root={camvid}"])
    train, val = build.build_dataset(config, "train"), build.build_dataset(config, "val")
    assert (len(train), len(val), train.num_classes) == (367, 101, 11)
    assert train[0]["image"].shape == (360, 480, 3)
    assert not {pair.name for pair in train.pairs} & {pair.name for pair in val.pairs}
