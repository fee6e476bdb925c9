"""Training and validation in a folder that is not divided yet, and in one that is."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccnet.data.folder import Folder
from ccnet.errors import DataError
from ccnet.preparation.splits import draw_splits, existing_splits, undivided, write_lists
from tests.conftest import write_folder

TWO_CLASSES = {"class_names": ["dark", "bright"], "palette": [(0, 0, 0), (255, 255, 255)]}


@given(
    st.sets(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=20),
    st.floats(0, 1),
    st.integers(0, 9),
    st.randoms(),
)
def test_a_division_is_one(names: set[str], val_share: float, seed: int, shuffle: random.Random) -> None:
    """Oracle: both parts together are the names, neither is empty, and their order does not matter."""
    drawn = draw_splits(sorted(names), val_share, seed)
    assert sorted(drawn["train"] + drawn["val"]) == sorted(names)
    assert len(drawn["val"]) == min(max(round(len(names) * val_share), 1), len(names) - 1)
    mixed = sorted(names)
    shuffle.shuffle(mixed)
    assert draw_splits(mixed, val_share, seed) == drawn


def test_the_seed_matters() -> None:
    """Oracle: inequality."""
    names = [str(index) for index in range(50)]
    assert draw_splits(names, 0.2, 0) != draw_splits(names, 0.2, 1)
    with pytest.raises(DataError, match="1 labelled images cannot be divided"):
        draw_splits(["a"], 0.2, 0)


@pytest.mark.parametrize("splits", [("train", "val"), ("training", "validation"), ("train", "valid")])
def test_sub_folders_and_lists_are_found(tmp_path: Path, splits: tuple[str, str]) -> None:
    """Oracle: the names of what was written."""
    write_folder(tmp_path / "folders", splits)
    assert existing_splits(tmp_path / "folders") == splits
    write_folder(tmp_path / "lists", ("",))
    write_lists(tmp_path / "lists", dict(zip(splits, (["0", "1"], ["2"]), strict=True)))
    assert existing_splits(tmp_path / "lists") == splits
    assert [pair.name for pair in Folder(str(tmp_path / "lists"), splits[0], **TWO_CLASSES).pairs] == ["0", "1"]


def test_what_is_not_divided(tmp_path: Path) -> None:
    """Oracle: the names; test images stay out of a division of images/train."""
    write_folder(tmp_path / "flat", ("",))
    assert existing_splits(tmp_path / "flat") is None
    assert [pair.name for pair in undivided(tmp_path / "flat")] == ["0", "1", "2"]
    write_folder(tmp_path / "half", ("train", "test"))
    assert existing_splits(tmp_path / "half") is None
    assert [pair.name for pair in undivided(tmp_path / "half")] == ["train/0", "train/1", "train/2"]


@pytest.mark.parametrize(("there", "missing"), [("train", "val"), ("val", "train")])
def test_a_list_without_its_partner_is_named(tmp_path: Path, there: str, missing: str) -> None:
    """Oracle: the message, written out."""
    write_folder(tmp_path, ("",))
    write_lists(tmp_path, {there: ["0"]})
    with pytest.raises(DataError, match=rf"{there}.txt is a list, .* write {missing}.txt beside it"):
        existing_splits(tmp_path)
