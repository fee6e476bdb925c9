"""Disks that are full and folders that cannot be deleted."""

import errno
import logging
import os
import re
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccnet import checkpoint
from ccnet.errors import CheckpointError
from ccnet.schema import RunConfig
from ccnet.sealed_folder import ASIDE
from tests.faults.disk import watched
from tests.faults.test_crash_points import train_and_stop_after
from tests.faults.zygote import Zygote, outcome, run_config, train
from tests.test_checkpoint import save


def train_within(config: RunConfig, most_bytes: int) -> None:
    """A victim: no file may grow beyond this size; Python ignores SIGXFSZ and gets EFBIG."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    train(config)


def train_without_deleting(config: RunConfig, refused: tuple[str, ...]) -> None:
    """A victim: some of the calls that delete a checkpoint fail."""

    def refuse(what: str, path: Path) -> None:
        if what in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with watched(Path(config.runs_dir), r"run/checkpoints/step_\d+\.aside(/.*)?", refuse):
        train(config)


def files_of(folder: Path) -> dict[Path, bytes]:
    """All contents."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_leaves_the_checkpoint_before(zygote: Zygote, data: Path, place: Path) -> None:
    """Oracle: the files before; path and bytes in the message; with room again the run ends as if nothing had been."""
    overrides = ["backbone.channels=48", "head.channels=32"]  # so that nothing else is as large as a checkpoint's files
    config = run_config(data, place, *overrides)
    assert zygote.fork(train_and_stop_after, config, 3).wait() == 75
    checkpoints = place / "run" / "checkpoints"
    before = files_of(checkpoints)
    sizes = [len(data) for path, data in before.items() if path.parent.name == "step_0000003"]
    for most_bytes in (max(sizes) - 1, max(sizes) // 2, max(sizes) // 4):
        victim = zygote.fork(train_within, config, most_bytes)
        assert victim.wait() == 2
        line = victim.told().splitlines()[-1]
        assert f"error: {checkpoints / 'step_0000004'} could not be written ([Errno {errno.EFBIG}]" in line
        assert abs(int(line.split()[-2]) - sum(sizes)) < 2000  # the manifest, and a later step's longer rows
        assert files_of(checkpoints) == before
    zygote.finish(train, config)
    zygote.finish(train, replace(config, name="whole"))
    assert outcome(place / "run") == outcome(place / "whole")


@pytest.mark.parametrize(("step", "calls"), [(1, 25), (2, 24)], ids=["over the same step", "after it"])
def test_no_space_at_any_call_leaves_what_was_there(step: int, calls: int, tmp_path: Path) -> None:
    """Oracle: the contents of the checkpoint that was there, for a failure at each call of a save up to the last flush,
    when a whole new one has its name; then there is none to fail, or only the deletion of what was replaced."""
    for failing in range(calls + 1):
        folder = tmp_path / str(failing)
        before = {path.name: data for path, data in files_of(save(folder, 1)).items()}
        told: list[str] = []

        def refuse(what: str, path: Path, told: list[str] = told, failing: int = failing) -> None:
            told.append(f"{what} {path}")
            if len(told) == failing + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        with watched(folder, ".*", refuse):
            message = save_error(folder, step)
        if failing >= calls:
            assert message is None
            assert len(told) > calls or step > 1
            return
        assert message is not None
        assert f"{folder / f'step_{step:07d}'} could not be written ([Errno {errno.ENOSPC}]" in message
        assert re.search(r"it needs \d{4,} bytes", message)
        assert not [*folder.glob(f"*{ASIDE}")]
        newest = checkpoint.newest(folder)
        assert newest is not None
        is_named = f"rename step_{step:07d}" in told[:-1]
        assert is_named or {path.name: data for path, data in files_of(newest.path).items()} == before


def save_error(folder: Path, step: int) -> str | None:
    """What a save says where it fails."""
    try:
        save(folder, step)
    except CheckpointError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("refused", "ending"), [(("rename",), ""), (("unlink",), ASIDE), (("rmdir",), ASIDE)])
def test_folders_that_cannot_be_deleted_stay(
    refused: tuple[str, ...], ending: str, zygote: Zygote, config: RunConfig, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the warnings, one a folder; the rest of the outcome is that of a run that can delete."""
    told = zygote.finish(train_without_deleting, config, refused)
    steps = [1, 2, 3, 4, 5, 6]
    for step in steps:
        assert f"step_{step:07d} is no longer needed and could not be deleted: [Errno {errno.EACCES}]" in told
    found = outcome(place / "run")
    assert found.pop("checkpoints") == sorted([f"step_{step:07d}{ending}" for step in steps] + reference["checkpoints"])
    assert found == {name: value for name, value in reference.items() if name != "checkpoints"}


def rotate_without_rights(folder: Path) -> None:
    """A victim: rotates as somebody who may read the folder, and no more."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    logging.getLogger("ccnet").warning("rotating")
    checkpoint.rotate(folder, 1, checkpoint.list_checkpoints(folder)[-1])
    assert len(checkpoint.list_checkpoints(folder)) == 3


def test_a_folder_of_somebody_else_stays(zygote: Zygote, place: Path) -> None:
    """Oracle: the system's own refusal; three checkpoints before and after, all whole."""
    for step in (1, 2, 3):
        save(place / "checkpoints", step)
    folders = [place / "checkpoints", *(place / "checkpoints").iterdir()]
    place.chmod(0o755)
    for folder in folders:
        folder.chmod(0o555)
    try:
        told = zygote.finish(rotate_without_rights, place / "checkpoints")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert told.count("is no longer needed and could not be deleted: [Errno 13] Permission denied") == 2
    assert [checkpoint.load(path).step for path in checkpoint.list_checkpoints(place / "checkpoints")] == [1, 2, 3]
