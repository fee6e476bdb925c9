"""Folders and files that are whole or absent."""

from pathlib import Path

import pytest

from ccnet.errors import DataError
from ccnet.preparation.published_folder import MARK, publish_text, published_folder


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Oracle: what lies there while it is written, and after."""
    target = tmp_path / "deep" / "target"
    with published_folder(target) as aside:
        (aside / "a").write_text("a")
        assert not target.exists()
    assert {path.name for path in target.iterdir()} == {"a", MARK}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    """Oracle: the old content, and nothing aside."""
    target = tmp_path / "target"
    with published_folder(target) as aside:
        (aside / "old").touch()

    def interrupted() -> None:
        with published_folder(target, overwrite=True) as aside:
            (aside / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "old").exists()


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where somebody looks into it. Oracle: the old content, and the reason."""
    target = tmp_path / "target"
    with published_folder(target) as aside:
        (aside / "old").touch()
    rename = Path.rename

    def refusing(self: Path, other: Path) -> Path:
        if ".part-" in self.name:
            raise PermissionError("somebody looks into it")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refusing)
    with (
        pytest.raises(DataError, match="target could not be written: somebody looks into it"),
        published_folder(target, overwrite=True) as aside,
    ):
        (aside / "new").touch()
    assert (target / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_only_folders_of_its_own_are_overwritten(tmp_path: Path) -> None:
    """Oracle: the user's file, which is still there."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    for overwrite, message in ((False, "exists already"), (True, "was not made by prepare_data")):
        with (
            pytest.raises(DataError, match=message),
            published_folder(tmp_path / "home", overwrite=overwrite),
        ):
            pytest.fail("the block ran")
    assert (tmp_path / "home" / "letter").exists()
    with published_folder(tmp_path / "own") as aside:
        (aside / "old").touch()
    with published_folder(tmp_path / "own", overwrite=True) as aside:
        (aside / "new").touch()
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"new", MARK}


@pytest.mark.parametrize("name", ["notes.txt", "splits/train.txt", "images/mine.png", ".hidden/a"])
def test_nothing_of_the_user_is_lost(tmp_path: Path, name: str) -> None:
    """Oracle: the file beside those that were made, named and still there; without it the folder is replaced."""
    target = tmp_path / "own"

    def publish() -> None:
        with published_folder(target, overwrite=True) as aside:
            (aside / "images").mkdir()
            (aside / "images" / "a.png").touch()

    publish()
    (target / name).parent.mkdir(exist_ok=True)
    (target / name).write_text("mine")
    with pytest.raises(DataError, match=rf"own/{name} was not made with the rest of .*own, which would be lost; move"):
        publish()
    assert (target / name).read_text() == "mine"
    (target / name).unlink()
    publish()


def test_texts(tmp_path: Path) -> None:
    """Oracle: the bytes; no carriage returns on any system."""
    target = tmp_path / "a" / "b.txt"
    publish_text(target, "grün\n")
    assert target.read_bytes() == "grün\n".encode()
    with pytest.raises(DataError, match=r"b.txt exists already; .*--overwrite"):
        publish_text(target, "")
    publish_text(target, "new", overwrite=True)
    assert (target.read_text(), len(list(target.parent.iterdir()))) == ("new", 1)
    with pytest.raises(DataError, match="could not be written"):
        publish_text(target / "below", "a file is no folder")
