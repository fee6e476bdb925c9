"""What survives when the power goes: the order in which things reach the disk. SIGKILL cannot show it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ccnet import checkpoint
from ccnet.errors import CheckpointError
from tests.faults.disk import watched
from tests.test_checkpoint import save, trained

FILES = {"model.safetensors", "optimizer.safetensors", "ema.safetensors", "meta.json", "MANIFEST.json"}


def calls_of(act: Callable[[], object], folder: Path) -> list[str]:
    """What `act` does to a folder of checkpoints, call by call."""
    calls: list[str] = []
    with watched(folder.parent, ".*", lambda what, path: calls.append(f"{what} {path}")):
        act()
    return calls


def require_order(calls: list[str], *wanted: str) -> None:
    """Each wanted call is there once, after the one before it."""
    assert [call for call in calls if call in wanted] == list(wanted)


@pytest.mark.parametrize("is_there", [False, True])
def test_everything_is_flushed_before_it_has_its_name(tmp_path: Path, is_there: bool) -> None:
    """Oracle: POSIX promises of a file what was fsynced, and of a name what was fsynced in its folder; so each file
    comes before its folder, that before the rename, and the rename before the fsync of the folder around it. The
    manifest, which tells that all is there, is written last; what it replaces goes after that."""
    folder = tmp_path / "checkpoints"
    if is_there:
        save(folder, 3)
    calls = calls_of(lambda: save(folder, 3), folder)
    aside, target = "checkpoints/step_0000003.aside", "checkpoints/step_0000003"
    for name in FILES:
        file = f"{aside}/{name}"
        require_order(calls, f"open {file}", f"write on {file}", f"fsync {file}", f"fsync {aside}")
    opened = [call.rpartition("/")[2] for call in calls if call.startswith(f"open {aside}/")]
    assert set(opened) == FILES
    assert opened[-1] == "MANIFEST.json"
    require_order(calls, f"fsync {aside}", f"rename {target}", "fsync checkpoints")
    if is_there:
        renames = [f"rename {target}.replaced", f"rename {target}", f"rename {target}.replaced.aside"]
        require_order(calls, f"fsync {aside}", *renames, f"rmdir {target}.replaced.aside")
        deletions = [index for index, call in enumerate(calls) if call.startswith("unlink")]
        assert len(deletions) == len(FILES)
        assert min(deletions) > calls.index("fsync checkpoints")
    else:
        require_order(calls, "mkdir checkpoints", "fsync .", f"mkdir {aside}", f"rename {target}")


def test_deletions_come_after_the_new_one_was_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the order of calls: all files of the newest are read before anything else loses its name."""
    folder = tmp_path / "checkpoints"
    for step in (1, 2, 3):
        save(folder, step)
    calls: list[str] = []
    real = os.open

    def note(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        calls.append(f"read {path}")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", note)
    with watched(folder, ".+", lambda what, path: calls.append(f"{what} {path}")):
        checkpoint.rotate(folder, 1, folder / "step_0000003")
    deletions = [call for call in calls if call.startswith(("rename", "unlink", "rmdir"))]
    for name in FILES:
        assert calls.index(f"read {folder / 'step_0000003' / name}") < calls.index(deletions[0])
    assert deletions[0] == "rename step_0000001.aside"
    assert len(deletions) == 2 * (1 + len(FILES) + 1)
    assert [path.name for path in folder.iterdir()] == ["step_0000003"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_is_deleted_where_the_new_one_is_damaged(tmp_path: Path, name: str) -> None:
    """Oracle: the list of names before."""
    for step in (1, 2, 3):
        save(tmp_path, step)
    before = sorted(tmp_path.iterdir())
    file = tmp_path / "step_0000003" / name
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match=name):
        checkpoint.rotate(tmp_path, 1, tmp_path / "step_0000003")
    assert sorted(tmp_path.iterdir()) == before


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_on_them(tmp_path: Path) -> None:
    """Oracle: the order of the calls; a checkpoint's step is where the rows of a resumed run begin."""
    from ccnet.training.log import RunLog
    from tests.training.test_milestones import Fake, milestones_of
    from tests.training.test_trainer import trainer_of

    trainer = trainer_of()
    milestones = milestones_of(tmp_path / "checkpoints", trainer, Fake())
    with RunLog(tmp_path, 5, 0, 1, evaluate_every=3, device=trainer.device) as log:
        milestones.parts = {"log": log}
        calls = calls_of(lambda: milestones.save(2), tmp_path / "checkpoints")
    require_order(calls, "fsync metrics.jsonl", "rename checkpoints/step_0000002")


def test_the_recorder_sees_what_it_should(tmp_path: Path) -> None:
    """Oracle: the calls, by hand; a recorder that misses some would let everything pass."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    calls = calls_of(lambda: checkpoint.save(folder, *trained(), {"step": 1, "score": None}), folder)
    aside = "checkpoints/step_0000001.aside"
    files = ["model.safetensors", "optimizer.safetensors", "meta.json", "MANIFEST.json"]
    per_file = [f"{what} {aside}/{name}" for name in files for what in ("open", "write", "write on", "fsync")]
    in_place = [f"fsync {aside}", "rename checkpoints/step_0000001", "fsync checkpoints"]
    assert calls == [f"mkdir {aside}", *per_file, *in_place]
