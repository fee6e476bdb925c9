"""Names and colours of an imported network's classes, whatever the file says."""

from pathlib import Path

import pytest

from ccnet.config import compose_config
from ccnet.data.cityscapes import CLASSES
from ccnet.data.voc import CLASS_NAMES, voc_color
from ccnet.errors import ConfigError, DataError
from ccnet.importers.classes import classes_of
from ccnet.importers.foreign import Told


def test_the_number_tells_cityscapes_and_voc() -> None:
    """Oracle: the data sets' own names and colours."""
    cityscapes, voc = classes_of(19, Told(), None), classes_of(21, Told(), None)
    assert (cityscapes.names, cityscapes.known) == (list(CLASSES), "cityscapes")
    assert cityscapes.palette == [color for _, color in CLASSES.values()]
    assert (voc.names, voc.known) == (CLASS_NAMES, "voc")
    assert (voc.palette[0], voc.palette[1], voc.palette[15]) == ((0, 0, 0), (128, 0, 0), (192, 128, 128))


def test_what_the_checkpoint_says_comes_before_the_number() -> None:
    """Oracle: its words; colours that it does not give are told apart."""
    names = [f"thing {index}" for index in range(19)]
    told = classes_of(19, Told(tuple(names), [[index, 2, 3] for index in range(19)]), None)
    assert (told.names, told.palette[7], told.known) == (names, (7, 2, 3), None)
    assert told.folder["class_names"] == names
    uncoloured = classes_of(19, Told(names), None)
    assert uncoloured.names == names
    assert len(set(uncoloured.palette)) == 19


@pytest.mark.parametrize(
    "names",
    [None, "two", 7, ["a"], ["a", "b", "c"], ["a", 3], ["a", ""], ["a", " "], ["a", "x" * 101], ["a", "b\n"],
     ["a", "${seed}"], ["a", "a"], ["a", "a "], {"a": 1, "b": 2}, [["a"], ["b"]]],
)  # fmt: skip
def test_names_that_cannot_be_are_numbers(names: object) -> None:
    """Oracle: generic names, and a line that says so."""
    classes = classes_of(2, Told(names, [[0, 0, 0], [1, 1, 1]]), None)
    assert classes.names == ["class_0", "class_1"]
    assert classes.palette == [voc_color(1), voc_color(2)]
    assert "numbers stand for names" in classes.origin
    assert classes.origin.startswith("nowhere" if names is None else "the checkpoint's own cannot be used")


def test_other_names_that_cannot_be_are_no_cityscapes() -> None:
    """Oracle: numbers, although there are as many as of Cityscapes or VOC."""
    for number in (19, 21):
        assert classes_of(number, Told(["a"] * number), None).names[-1] == f"class_{number - 1}"


@pytest.mark.parametrize(
    "palette",
    [None, 3, [[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, 256], [0, 0, 0]], [[0, 0, True], [0, 0, 0]], ["abc", "abc"]],
)
def test_colours_that_cannot_be_are_left(palette: object) -> None:
    """Oracle: VOC's colours from 1 on."""
    assert classes_of(2, Told(["a", "b"], palette), None).palette == [voc_color(1), voc_color(2)]


def test_a_file_of_the_callers_comes_first(tmp_path: Path) -> None:
    """Oracle: its lines; another number of them is a mistake."""
    file = tmp_path / "classes.txt"
    file.write_text("wall:1,2,3\nfloor:4,5,6\n")
    classes = classes_of(2, Told(["a", "b"]), file)
    assert (classes.names, classes.palette, classes.origin) == (["wall", "floor"], [(1, 2, 3), (4, 5, 6)], str(file))
    with pytest.raises(ConfigError, match=r"classes\.txt names 2 classes, the network has 3"):
        classes_of(3, Told(), file)
    with pytest.raises(DataError, match="cannot be read"):
        classes_of(3, Told(), tmp_path / "absent.txt")


def test_known_data_sets_are_groups_of_the_configuration() -> None:
    """Oracle: the composed part."""
    for number, target in ((19, "ccnet.data.cityscapes.Cityscapes"), (21, "ccnet.data.voc.VOC")):
        known = classes_of(number, Told(), None).known
        assert compose_config([f"dataset={known}"]).dataset["_target_"] == target
