"""The Cityscapes layout and label table."""

from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from ccnet.data.cityscapes import CLASSES, LABEL_IDS, NUM_LABEL_IDS, Cityscapes, label_table
from ccnet.errors import ConfigError, DataError


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
    path = next((cityscapes / "gtFine/val").rglob("*.png"))
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(path)
    with pytest.raises(DataError, match="label 77"):
        Cityscapes(str(cityscapes), "val")[0]


def write_train_ids(root: Path, split: str) -> list[Path]:
    """*_labelTrainIds.png beside the labelIds, by the official table."""
    official = {label.id: label.trainId if 0 <= label.trainId < 255 else 255 for label in labels}
    written = []
    for path in sorted((root / "gtFine" / split).rglob("*_labelIds.png")):
        written.append(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
        Image.fromarray(np.vectorize(official.get)(np.asarray(Image.open(path))).astype(np.uint8)).save(written[-1])
    return written


def test_train_id_files_serve_where_every_image_has_one(cityscapes: Path) -> None:
    """Oracle: the masks out of labelIds; with one file gone the labelIds serve again, alone they do, too."""
    masks = [sample["mask"] for sample in map(Cityscapes(str(cityscapes), "train").__getitem__, range(4))]
    written = write_train_ids(cityscapes, "train")
    dataset = Cityscapes(str(cityscapes), "train")
    assert [pair.mask for pair in dataset.pairs] == written
    assert all(np.array_equal(dataset[index]["mask"], masks[index]) for index in range(4))
    gone = written[1].read_bytes()
    written[1].unlink()
    dataset = Cityscapes(str(cityscapes), "train")
    assert {pair.mask.name.rpartition("_")[2] for pair in dataset.pairs} == {"labelIds.png"}
    assert np.array_equal(dataset[3]["mask"], masks[3])
    written[1].write_bytes(gone)
    for path in (cityscapes / "gtFine/train").rglob("*_labelIds.png"):
        path.unlink()
    assert np.array_equal(Cityscapes(str(cityscapes), "train")[1]["mask"], masks[1])


@pytest.mark.parametrize("alone", [False, True])
def test_train_ids_that_nothing_verifies_are_said(
    cityscapes: Path, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: one line where no labelIds are there, and none where they are."""
    written = write_train_ids(cityscapes, "train")
    for path in (cityscapes / "gtFine/train").rglob("*_labelIds.png") if alone else ():
        path.unlink()
    Cityscapes(str(cityscapes), "train")
    said = [f"{written[0]} and the others hold train ids unverified: there are no labelIds beside them"]
    assert caplog.messages == said * alone


def test_what_macos_lays_beside_is_no_frame(cityscapes: Path) -> None:
    """Oracle: the data set before."""
    pairs = Cityscapes(str(cityscapes), "train").pairs
    for path in [*cityscapes.rglob("train/teststadt/*.png")]:
        path.with_name(f"._{path.name}").touch()
    assert Cityscapes(str(cityscapes), "train").pairs == pairs


@pytest.mark.parametrize("index", [0, 1, 2])
def test_train_ids_that_are_none_are_named(cityscapes: Path, index: int) -> None:
    """A file that holds labelIds under the other name, among those that are compared."""
    path = write_train_ids(cityscapes, "train")[index]
    path.write_bytes(path.with_name(path.name.replace("labelTrainIds", "labelIds")).read_bytes())
    with pytest.raises(DataError, match=rf"{path.name} does not hold the train ids of .*labelIds.png; delete"):
        Cityscapes(str(cityscapes), "train")


def test_trainval_joins_both(cityscapes: Path) -> None:
    """Oracle: the names of both; the generated ones would collide in one city, as no real frames do."""
    for path in [*cityscapes.rglob("val/teststadt/*")]:
        target = path.parents[1] / "valstadt" / path.name.replace("teststadt", "valstadt")
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    joined = Cityscapes(str(cityscapes), "trainval")
    parts = [Cityscapes(str(cityscapes), split) for split in ("train", "val")]
    assert [pair for part in parts for pair in part.pairs] == joined.pairs
    assert joined.labelled


def test_coarse_labels(cityscapes: Path) -> None:
    """train_extra has coarse labels only. Oracle: the folder that each mask lies in."""
    for split in ("train", "train_extra"):
        for path in (cityscapes / "leftImg8bit/train/teststadt").glob("*.png"):
            city = "extra" if split == "train_extra" else "teststadt"
            image = cityscapes / "leftImg8bit" / split / city / path.name.replace("teststadt", city)
            coarse = cityscapes / "gtCoarse" / split / city / image.name.replace("leftImg8bit", "gtCoarse_labelIds")
            image.parent.mkdir(parents=True, exist_ok=True)
            coarse.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(path.read_bytes())
            Image.fromarray(np.full((48, 64), 7, np.uint8)).save(coarse)
    kinds = {
        (split, labels): [pair.mask.relative_to(cityscapes).parts[:2] for pair in dataset.pairs]
        for split in ("train", "train_extra", "train+train_extra")
        for labels in ("fine", "coarse")
        for dataset in [Cityscapes(str(cityscapes), split, labels)]
    }
    fine, coarse, extra = [("gtFine", "train")] * 4, [("gtCoarse", "train")] * 4, [("gtCoarse", "train_extra")] * 4
    assert kinds == {
        ("train", "fine"): fine,
        ("train", "coarse"): coarse,
        ("train_extra", "fine"): extra,
        ("train_extra", "coarse"): extra,
        ("train+train_extra", "fine"): extra + fine,
        ("train+train_extra", "coarse"): extra + coarse,
    }
    assert (Cityscapes(str(cityscapes), "train_extra")[0]["mask"] == 0).all()


def test_the_test_split_has_no_labels(cityscapes: Path) -> None:
    """The archive brings empty ones, which must not be scored. Oracle: the images, and 255 everywhere."""
    (cityscapes / "leftImg8bit/val").rename(cityscapes / "leftImg8bit/test")
    (cityscapes / "gtFine/val").rename(cityscapes / "gtFine/test")
    dataset = Cityscapes(str(cityscapes), "test")
    assert (len(dataset), dataset.labelled, dataset.num_classes) == (2, False, 19)
    assert (dataset[0]["mask"] == 255).all()


def test_a_label_map_of_ones_own(cityscapes: Path) -> None:
    """Flat surfaces and the rest, in place of the 19 classes; files of train ids do not count then. Oracle: the ids."""
    write_train_ids(cityscapes, "train")
    own = {"label_map": {7: 0, 8: 0, "default": 1}, "class_names": ["flat", "rest"], "palette": [(0, 0, 0), (9, 9, 9)]}
    dataset = Cityscapes(str(cityscapes), "train", **own)
    ids = np.asarray(Image.open(cityscapes / "gtFine/train/teststadt/teststadt_000002_000019_gtFine_labelIds.png"))
    assert np.array_equal(dataset[2]["mask"], ~np.isin(ids, (7, 8)))
    assert dataset.class_names == ["flat", "rest"]
    with pytest.raises(ConfigError, match=r"dataset\.palette: \[300, 0, 0\] is no colour"):
        Cityscapes(str(cityscapes), "train", **{**own, "palette": [(300, 0, 0), (0, 0, 0)]})
    with pytest.raises(ConfigError, match=r"need a dataset\.label_map"):
        Cityscapes(str(cityscapes), "train", class_names=["a"], palette=[(0, 0, 0)])
