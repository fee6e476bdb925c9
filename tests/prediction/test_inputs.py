"""What --input means."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.errors import DataError
from ccnet.prediction.inputs import find_inputs


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """in/: images, one in a sub-folder, a text, a hidden file."""
    for name in ("a.png", "a.JPG", "sub/b.webp", ".hidden.png", "sub/._b.webp", "notes.md"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


def found(where: object, output: Path) -> dict[str, Path]:
    return {item.name: item.path for item in find_inputs(str(where), output)}


def test_a_file_and_a_folder(photos: Path, tmp_path: Path) -> None:
    """Oracle: the images that were put there, by their sub-path."""
    assert found(photos / "a.png", tmp_path / "out") == {"a.png": photos / "a.png"}
    names = ["a.JPG", "a.png", "sub/b.webp"]
    # a.JPG and a.png are two on every file system
    assert found(photos, tmp_path / "out") == {name: photos / name for name in names}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("in/*.png", ["a.png"]),
        ("in/**/*", ["a.JPG", "a.png", "sub/b.webp"]),
        ("in/**", ["a.JPG", "a.png", "sub/b.webp"]),
        ("in/s?b/*", ["sub/b.webp"]),
        ("in/sub/b.[pw]*", ["b.webp"]),
        ("in/**/**/*.[pw]*", ["a.png", "sub/b.webp"]),
    ],
)
def test_a_pattern(pattern: str, names: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what a shell would find, named from the last folder without a wildcard; absolute and relative."""
    monkeypatch.chdir(photos.parent)
    for where in (pattern, str(photos.parent / pattern)):
        assert list(found(where, Path("out"))) == names


def test_what_is_there_wins_over_a_pattern(tmp_path: Path) -> None:
    """Oracle: the file and the folder with brackets in their names."""
    (tmp_path / "[ab]").mkdir()
    (tmp_path / "[ab]" / "x*.png").touch()
    assert list(found(tmp_path / "[ab]", tmp_path / "out")) == ["x*.png"]
    assert list(found(tmp_path / "[ab]" / "x*.png", tmp_path / "out")) == ["x*.png"]


def test_a_list_is_relative_to_its_own_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the paths, whatever the current folder; names stay below the output; what is missing is told later."""
    lines = ["in/a.png", "", "  in/sub/b.webp  ", str(photos / "a.JPG"), "in/sub/../../in/gone.png", "in/a.png"]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(photos)
    inputs = found(tmp_path / "list.txt", tmp_path / "out")
    absolute = (photos / "a.JPG").relative_to(photos.anchor).as_posix()
    assert list(inputs) == ["in/a.png", "in/sub/b.webp", absolute, "in/sub/in/gone.png"]
    assert [path.exists() for path in inputs.values()] == [True, True, True, False]


def test_a_list_names_each_file_once(photos: Path, tmp_path: Path) -> None:
    """Oracle: the first name of each; a path that is no name of any file stays for later."""
    lines = ["in/a.png", "./in/a.png", "in//a.png", str(photos / "a.png"), "in/a.JPG", "a\0b.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert list(found(tmp_path / "list.txt", tmp_path / "out")) == ["in/a.png", "in/a.JPG", "a_b.png"]


def test_nothing_and_too_much_are_no_names(tmp_path: Path) -> None:
    """Oracle: the messages; an empty word is not the current folder."""
    with pytest.raises(DataError, match="--input is empty; name an image, a folder, a pattern or a list"):
        find_inputs("", tmp_path / "out")
    if os.name != "nt":
        with pytest.raises(DataError, match=r"--input a{300}: File name too long"):
            find_inputs("a" * 300, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone", None, "gone: no such file or folder"),
        ("*.png", None, r"holds no images \(\.bmp, "),
        ("empty", "", "holds no images"),
        ("none.txt", "\n \n", "lists no images"),
        ("latin.txt", b"stra\xdfe.png", "is not a list of paths in UTF-8"),
    ],
)
def test_nothing_to_predict_is_an_error(name: str, content: str | bytes | None, message: str, tmp_path: Path) -> None:
    """Oracle: the message."""
    if content == "":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        find_inputs(str(tmp_path / name), tmp_path / "out")


@pytest.mark.parametrize("output", ["in/predictions", "in"])
def test_results_inside_the_input_are_no_input(output: str, photos: Path, tmp_path: Path) -> None:
    """Oracle: the same list at the second call, for a folder and a pattern."""
    for where in (photos, photos / "**/*"):
        before = found(where, tmp_path / output)
        result = tmp_path / output / "overlay/sub/b.webp.png"
        result.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(result)
        assert found(where, tmp_path / output) == before


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_loops_of_links_end(photos: Path, tmp_path: Path) -> None:
    """Oracle: the same images as without the loop."""
    before = found(photos, tmp_path / "out")
    (photos / "sub" / "loop").symlink_to(photos)
    assert found(photos, tmp_path / "out") == before
