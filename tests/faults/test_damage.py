"""Checkpoints that are not what was saved: named, skipped for an older one, and never a silent beginning."""

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccnet import checkpoint
from ccnet.errors import CheckpointError
from ccnet.schema import RunConfig
from tests.faults.test_crash_points import train_and_stop_after
from tests.faults.zygote import Zygote, outcome, train
from tests.test_checkpoint import save

FILES = ["model.safetensors", "optimizer.safetensors", "ema.safetensors", "meta.json", "MANIFEST.json"]
FLIPS = 130  # of each file


def load_error(path: Path) -> str:
    """What loading a damaged checkpoint says; it must refuse."""
    try:
        checkpoint.load(path)
    except CheckpointError as error:
        return str(error)
    return "nothing"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_found(name: str, tmp_path: Path) -> None:
    """Oracle: the flip; the message names the checkpoint, and the file unless the manifest's own words are wrong."""
    path = save(tmp_path, 1)
    file, data = path / name, (path / name).read_bytes()
    rng = random.Random(name)
    for position, bit in (divmod(number, 8) for number in rng.sample(range(8 * len(data)), FLIPS)):
        file.write_bytes(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])
        error = load_error(path)
        assert str(path if name == "MANIFEST.json" else file) in error, (position, bit, error)
    file.write_bytes(data)
    checkpoint.load(path)


@pytest.mark.long
def test_every_bit_of_the_manifest_counts(tmp_path: Path) -> None:
    """Oracle: the flip, of each bit of the file that vouches for the others."""
    path = save(tmp_path, 1)
    file, data = path / "MANIFEST.json", (path / "MANIFEST.json").read_bytes()
    for position in range(len(data)):
        for bit in range(8):
            file.write_bytes(data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :])
            assert str(path) in load_error(path), (position, bit)


@pytest.mark.parametrize("name", FILES)
def test_truncations_are_found(name: str, tmp_path: Path) -> None:
    """Oracle: the cut, at every length of a short file and at 100 of a long one."""
    path = save(tmp_path, 1)
    file, data = path / name, (path / name).read_bytes()
    for length in {0, 1, len(data) - 1, *range(0, len(data), max(1, len(data) // 100))}:
        file.write_bytes(data[:length])
        assert str(file) in load_error(path), length
    file.write_bytes(data + b" ")
    assert str(file) in load_error(path) or name == "MANIFEST.json"  # JSON may end in a space
    file.unlink()
    assert name in load_error(path)


def test_files_of_another_checkpoint_are_found(tmp_path: Path) -> None:
    """Oracle: whole files in the wrong place: of another step, or of another name."""
    path, other = save(tmp_path, 1), save(tmp_path, 2)
    for name in FILES:
        data = (path / name).read_bytes()
        (path / name).write_bytes((other / name).read_bytes())
        assert (path / name).read_bytes() == data or str(path) in load_error(path)
        (path / name).write_bytes(data)
    shutil.copy(path / "ema.safetensors", path / "model.safetensors")
    assert "model.safetensors is damaged" in load_error(path)


def cut(file: Path) -> None:
    """To half its length."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("name", FILES)
def test_a_run_goes_on_from_the_one_before(
    name: str, zygote: Zygote, config: RunConfig, place: Path, reference: dict[str, Any]
) -> None:
    """Oracle: the warning, which names the file; the outcome of a run that nothing interrupts."""
    assert zygote.fork(train_and_stop_after, config, 6).wait() == 75
    cut(place / "run" / "checkpoints" / "step_0000006" / name)
    told = zygote.finish(train, config)
    assert re.search(rf"skipping a damaged checkpoint: .*step_0000006.*{name}", told)
    assert "continues at step 5" in told
    assert outcome(place / "run") == reference


@pytest.mark.parametrize("name", [*FILES, "no manifest"])
def test_a_run_without_a_whole_checkpoint_does_not_begin_again(
    name: str, zygote: Zygote, config: RunConfig, place: Path
) -> None:
    """Oracle: status 2 and one line that names the folder; all files as they were."""
    config = replace(config, trainer=replace(config.trainer, save_every=3))
    folder = place / "run"
    assert zygote.fork(train_and_stop_after, config, 6).wait() == 75
    for path in (folder / "checkpoints").iterdir():
        if name == "no manifest":
            (path / "MANIFEST.json").unlink()
        else:
            cut(path / name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    victim = zygote.fork(train, config)
    assert victim.wait() == 2
    assert f"error: no checkpoint in {folder / 'checkpoints'} is whole" in victim.told()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
