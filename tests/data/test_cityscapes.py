"""The Cityscapes layout and label table."""

from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels

from ccnet.data.cityscapes import CLASSES, LABEL_IDS, NUM_LABEL_IDS, Cityscapes, label_table
from ccnet.errors import DataError


def test_table_names_and_colours_are_the_official_ones() -> None:
    """Oracle: cityscapesScripts."""
    table = label_table()
    official = {label.trainId: label for label in labels if 0 <= label.trainId < 255}
    assert len(official) == len(CLASSES)
    for index, (name, (label_id, color)) in enumerate(CLASSES.items()):
        assert (official[index].name, official[index].id, official[index].color) == (name, label_id, color)
    for label in labels:
        if label.id >= 0:
            assert table[label.id] == (label.trainId if 0 <= label.trainId < 255 else 255)
    assert max(label.id for label in labels) == NUM_LABEL_IDS - 1
    assert [official[index].id for index in range(len(CLASSES))] == LABEL_IDS.tolist()


def test_label_ids_become_train_ids(cityscapes: Path) -> None:
    """Oracle: the ids that the generated masks hold: 7, 8, 11, 23, 26 and 0."""
    dataset = Cityscapes(str(cityscapes), "train")
    assert len(dataset) == 4
    found = np.unique(np.concatenate([dataset[index]["mask"].ravel() for index in range(4)]))
    assert set(found) <= {0, 1, 2, 10, 13, 255}
    assert dataset[0]["name"] == "teststadt_000000_000019"


def test_pairs_go_by_name(cityscapes: Path) -> None:
    """A missing label must not shift its neighbours."""
    gone = cityscapes / "gtFine/train/teststadt/teststadt_000001_000019_gtFine_labelIds.png"
    gone.unlink()
    with pytest.raises(DataError, match=r"teststadt_000001_000019_leftImg8bit.png has no mask"):
        Cityscapes(str(cityscapes), "train")


def test_missing_folders_and_splits_are_named(cityscapes: Path, tmp_path: Path) -> None:
    """Oracle: the path that is missing."""
    with pytest.raises(DataError, match=r"nowhere/leftImg8bit/train does not exist; set dataset.root"):
        Cityscapes(str(tmp_path / "nowhere"), "train")
    (cityscapes / "leftImg8bit/empty").mkdir()
    (cityscapes / "gtFine/empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        Cityscapes(str(cityscapes), "empty")


def test_an_unknown_id_is_refused(cityscapes: Path) -> None:
    """Ids beyond the official 33 are a mistake, not something to ignore."""
    from PIL import Image

    path = next((cityscapes / "gtFine/val").rglob("*.png"))
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(path)
    with pytest.raises(DataError, match="label 77"):
        Cityscapes(str(cityscapes), "val")[0]
