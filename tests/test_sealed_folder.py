"""Folders that are there whole or not at all. What a crash, a full disk or a flipped bit does: tests/faults."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from ccnet import sealed_folder
from ccnet.errors import CheckpointError

FILES = {"a.bin": bytes(range(256)), "b.json": b"{}", "empty": b""}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Oracle: the bytes; sizes and hashes by hashlib; names that are not asked for stay unread."""
    target = tmp_path / "new" / "folder"
    sealed_folder.write(target, FILES)
    assert sealed_folder.read(target, ["a.bin", "b.json"], ["empty", "absent"]) == FILES
    manifest = {n: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for n, data in FILES.items()}
    assert sealed_folder.read_manifest(target) == manifest
    assert sorted(path.name for path in target.iterdir()) == sorted([*FILES, sealed_folder.MANIFEST])
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_new_one_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """Oracle: the new bytes; nothing of the old, nor of what killed writers left, is there."""
    target = tmp_path / "folder"
    for name in (f"folder{sealed_folder.REPLACED}", f"folder{sealed_folder.ASIDE}", f"other{sealed_folder.ASIDE}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_bytes(b"x")
    sealed_folder.write(target, FILES)
    sealed_folder.write(target, {"c": b"new"})
    assert sealed_folder.read(target, ["c"]) == {"c": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert sorted(path.name for path in target.iterdir()) == [sealed_folder.MANIFEST, "c"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "is no checkpoint: it has no MANIFEST.json"),
        (b"", "MANIFEST.json cannot be read"),
        (b"{", "MANIFEST.json cannot be read"),
        (b"\\xff", "MANIFEST.json cannot be read"),
        (b"[" * 100_000, "MANIFEST.json cannot be read"),
        (b"[]", "MANIFEST.json is not a manifest"),
        (b'{"a.bin": 3}', "MANIFEST.json is not a manifest"),
        (b"{}", "a.bin is damaged"),
        (b'{"a.bin": {}}', "a.bin is damaged"),
    ],
)
def test_a_manifest_is_not_trusted(manifest: bytes | None, message: str, tmp_path: Path) -> None:
    """Oracle: the refusal, which names folder and file."""
    sealed_folder.write(tmp_path / "folder", FILES)
    file = tmp_path / "folder" / sealed_folder.MANIFEST
    file.unlink()
    if manifest is not None:
        file.write_bytes(manifest)
    with pytest.raises(CheckpointError, match=rf"{tmp_path / 'folder'}.*{message}"):
        sealed_folder.read(tmp_path / "folder", FILES)


@pytest.mark.parametrize("change", ["a size", "an unknown file", "a file with another name"])
def test_a_manifest_is_taken_at_its_word(change: str, tmp_path: Path) -> None:
    """Oracle: the refusal: a flipped bit in the name of a file that may be missing must not leave it out."""
    sealed_folder.write(tmp_path / "folder", FILES)
    file = tmp_path / "folder" / sealed_folder.MANIFEST
    manifest = json.loads(file.read_text())
    if change == "a size":
        manifest["a.bin"]["bytes"] += 1
    elif change == "an unknown file":
        manifest["else"] = manifest["a.bin"]
    else:
        manifest["emptx"] = manifest.pop("empty")
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"is damaged"):
        sealed_folder.read(tmp_path / "folder", ["a.bin", "b.json"], ["empty"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes among its files")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "large"])
def test_only_plain_files_are_read(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the refusal, at once; a pipe would keep its reader for ever."""
    sealed_folder.write(tmp_path / "folder", FILES)
    file = tmp_path / "folder" / "a.bin"
    if kind == "large":
        monkeypatch.setattr(sealed_folder, "MOST_BYTES", 255)
    else:
        file.rename(tmp_path / "a.bin")
    {"link": lambda: file.symlink_to(tmp_path / "a.bin"), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}.get(
        kind, lambda: None
    )()
    with pytest.raises(CheckpointError, match=rf"{file} cannot be read"):
        sealed_folder.read(tmp_path / "folder", FILES)


def test_what_is_half_deleted_does_not_look_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: its name is gone before anything in it is; the next writer beside it removes the rest."""
    target = tmp_path / "folder"
    sealed_folder.write(target, FILES)

    def refuse(path: Path) -> None:
        assert sorted(entry.name for entry in path.iterdir()) == sorted([*FILES, sealed_folder.MANIFEST])
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(sealed_folder.shutil, "rmtree", refuse)
        with pytest.raises(OSError, match="killed"):
            sealed_folder.delete(target)
    assert [path.name for path in tmp_path.iterdir()] == [f"folder{sealed_folder.ASIDE}"]
    sealed_folder.write(tmp_path / "other", FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    sealed_folder.delete(tmp_path / "other")
    assert not [*tmp_path.iterdir()]
