"""Files of class names."""

from pathlib import Path

import pytest

from ccnet.errors import DataError
from ccnet.preparation.class_file import find_class_file, read_class_file


def test_names_alone_and_with_colours(tmp_path: Path) -> None:
    """Oracle: the lists; the second text is as CVAT writes it."""
    assert find_class_file(tmp_path) is None
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,64,1::\n")
    found = read_class_file(find_class_file(tmp_path))
    assert (found.names, found.colors) == (["background", "cat"], [(0, 0, 0), (128, 64, 1)])
    (tmp_path / "classes.txt").write_text("lawn\n\ngarden path\n")
    found = read_class_file(find_class_file(tmp_path))
    assert (found.names, found.colors) == (["lawn", "garden path"], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name each class once"),
        ("a\na\n", "must name each class once"),
        (":1,2,3\n", "must name each class once"),
        ("${oc.env:HOME}\n", "must name each class once"),
        ("a:1,2,3\nb\n", "gives colours to 1 of 2 classes"),
        ("a:1,2\n", r"\[1, 2\] is no colour"),
        ("a:1,2,x\n", "expected name:red,green,blue"),
        ("a:1,2,300\n", "is no colour"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Oracle: the message, written out."""
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes.txt.*{message}"):
        read_class_file(tmp_path / "classes.txt")
