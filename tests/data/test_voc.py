"""The VOC layout and palette."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.data.voc import CLASS_NAMES, VOC, voc_color
from ccnet.errors import ConfigError, DataError


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two images with palette masks, one of them in the list."""
    for sub in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / sub).mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9], mask[9:10] = 15, 255
    for name in ("2007_000001", "2007_000002"):
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        picture = Image.fromarray(mask)
        picture.putpalette([channel for index in range(256) for channel in voc_color(index)])
        picture.save(tmp_path / "SegmentationClass" / f"{name}.png")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_000002\n")
    return tmp_path


def test_the_palette_is_the_published_one() -> None:
    """Oracle: colours of the VOC development kit, written out."""
    published = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {index: voc_color(index) for index in published} == published
    assert len(CLASS_NAMES) == 21


def test_the_list_is_the_split_and_the_border_is_ignored(voc: Path) -> None:
    """Oracle: what the fixture wrote."""
    dataset = VOC(str(voc), "train")
    assert [pair.name for pair in dataset.pairs] == ["2007_000002"]
    assert np.unique(dataset[0]["mask"]).tolist() == [0, 15, 255]


def test_what_is_missing_is_named(voc: Path) -> None:
    """Oracle: the paths that are missing."""
    with pytest.raises(DataError, match=r"val.txt: no such list"):
        VOC(str(voc), "val")
    (voc / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000001\n")
    with pytest.raises(DataError, match=r"1 files of the VOC split trainaug are missing.*SegmentationClassAug"):
        VOC(str(voc), "trainaug")


def test_a_label_map_of_ones_own(voc: Path) -> None:
    """People and the rest. Oracle: the indices of the fixture."""
    own = {"label_map": {15: 1, "default": 0}, "class_names": ["rest", "person"], "palette": [(0, 0, 0), (9, 9, 9)]}
    assert np.unique(VOC(str(voc), "train", **own)[0]["mask"]).tolist() == [0, 1, 255]
    with pytest.raises(ConfigError, match=r"need a dataset\.label_map"):
        VOC(str(voc), "train", class_names=["a"], palette=[(0, 0, 0)])


@pytest.mark.parametrize("name", ["../../../escaped", "..", "/escaped", "sub/2007_000001", "sub\\a", "C:a"])
def test_a_name_with_a_folder_is_refused(voc: Path, name: str) -> None:
    """Oracle: the message, written out."""
    (voc / "ImageSets/Segmentation/train.txt").write_text(f"2007_000002\n{name}\n")
    with pytest.raises(DataError, match=rf"train.txt names {re.escape(name)}; expected a file's name, without folder"):
        VOC(str(voc), "train")
