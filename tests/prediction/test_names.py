"""Results keep the names of their images, stay where they belong, and never overwrite each other."""

import unicodedata
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.prediction.names import result_names


def names(*paths: str) -> list[str]:
    return result_names([PurePosixPath(path) for path in paths])


def test_usual_names_stay() -> None:
    """Oracle: themselves."""
    usual = ["a.jpg", "a.png", "sub/ä b.c.tif", "2024-01-01T10:00:00.png", "日本/写　真.jpg"]
    assert names(*usual) == usual


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["../../etc/a.png", "/etc/a.png", "etc/a.png"], ["etc/a.png", "etc/a~2.png", "etc/a~3.png"]),
        (["A.jpg", "a.jpg", "a~2.jpg"], ["A.jpg", "a~2.jpg", "a~2~2.jpg"]),
        (["Sub/a.jpg", "sub/A.jpg"], ["Sub/a.jpg", "sub/A~2.jpg"]),
        (["\u00e9.png", "e\u0301.png"], ["\u00e9.png", "e\u0301~2.png"]),
        (["con.png", "x/NUL", "aux/com1.tar.png", "console.png"],
         ["_con.png", "x/_NUL", "_aux/_com1.tar.png", "console.png"]),
        (["dot./a.png", "space /a.png", "a.jpg.png/b.png"], ["dot._/a.png", "space _/a.png", "a.jpg.png_/b.png"]),
        (["a\nb.png", "a\udcffb.png"], ["a_b.png", "a_b~2.png"]),
        (["..", "/"], ["_", "_~2"]),
    ],
)  # fmt: skip
def test_what_would_collide_escape_or_be_no_name_is_changed(paths: list[str], expected: list[str]) -> None:
    """Oracle: written out."""
    assert names(*paths) == expected


def test_drives_are_left_out() -> None:
    """Oracle: written out, on any machine."""
    assert result_names([PureWindowsPath(r"C:\photos\a.png"), PureWindowsPath(r"..\b.png")]) == [
        "photos/a.png",
        "b.png",
    ]


parts = st.one_of(
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=90),
    st.sampled_from(["..", "con", "A", "a", "a.jpg", "A.JPG", "a.jpg.png", "ß", "ss", "x" * 300 + ".jpg"]),
)


@settings(deadline=None)
@given(st.lists(st.lists(parts, min_size=1, max_size=3), min_size=1, max_size=12))
def test_any_names(found: list[list[str]]) -> None:
    """Oracle: what a file system demands: below the folder, no two the same without case, short, and no result's file
    the folder of another; and the same names at the second call."""
    paths: list[PurePath] = [PurePosixPath(*each) for each in found]
    made = result_names(paths)
    assert made == result_names(paths)
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in made}) == len(paths)
    for name in made:
        inside = PurePosixPath(name)
        assert not inside.is_absolute()
        assert ".." not in inside.parts
        assert inside.as_posix() == name
        assert all(len(f".{part}.png.part".encode()) <= 255 for part in inside.parts)
        assert not any(folder.name.lower().endswith(".png") for folder in inside.parents)


def test_a_long_name_is_a_file_on_this_disk(tmp_path: Path) -> None:
    """Oracle: the file system."""
    long = result_names([PurePosixPath("ü" * 120 + ".jpg"), PurePosixPath("ü" * 121 + ".jpg")])
    for name in long:
        (tmp_path / f".{name}.png.part").write_text("x")
        assert name.endswith(".jpg")
    assert long[0] != long[1]
