"""Checkpoints and weights made to do harm: refused in one line, and nothing in them is run, followed or waited for."""

import io
import os
import shutil
import socket
import warnings
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ccnet.errors import CheckpointError
from ccnet.models.backbones.patches import Patches
from tests.faults import attacks
from tests.faults.attacks import WRAPPINGS, is_armed, limits, traps
from tests.faults.victim import Make, Victim, make_victim

TENSOR_FILES = ["model.safetensors", "optimizer.safetensors", "ema.safetensors"]


def backbone(path: Path) -> None:
    """backbone.weights."""
    Patches(8, weights=str(path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    """A run and a whole checkpoint of it."""
    return make_victim(tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("place"))


@pytest.fixture
def victim(made: Victim, monkeypatch: pytest.MonkeyPatch) -> Iterator[Victim]:
    """Each test has an empty place, and no network."""

    def refuse(*_: Any) -> None:
        raise AssertionError("somebody asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(made.place)
    yield made
    made.clear()


def test_the_victim_would_take_what_is_whole(victim: Victim) -> None:
    """Oracle: no error: what the attacks below change is what they are refused for."""
    for signed in (False, True):
        run = victim.attacked(lambda path: None, signed=signed)
        for entry in (victim.load, victim.resume, victim.begin_from):
            with limits():
                entry(run)
        shutil.rmtree(run)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_code_in_weights_is_not_run(wrapping: str, victim: Victim, tmp_path: Path) -> None:
    """Oracle: the canary, which each trap makes where it is unpickled carelessly."""
    (tmp_path / "needs").mkdir()
    canary = tmp_path / "canary"
    for name, trap in traps(canary, tmp_path / "needs").items():
        if wrapping == "pickle":
            with warnings.catch_warnings(action="ignore"):
                assert is_armed(trap, canary), f"the trap {name} does not work"
            traps(canary, tmp_path / "needs")
        for suffix in (".pth", ".safetensors"):
            path = victim.place / f"weights{suffix}"
            WRAPPINGS[wrapping](trap, path)
            victim.refuses(path, backbone, victim.begin_from, canary=canary)
        run = victim.attacked(
            lambda path: shutil.copy(victim.place / "weights.pth", path / TENSOR_FILES[2]), signed=True
        )
        victim.refuses(run, victim.load, victim.resume, victim.begin_from, canary=canary)
        shutil.rmtree(run)


@lru_cache
def _bomb() -> bytes:
    """One and a quarter GiB of zeros in an MiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in attacks.entries_of({"a": torch.zeros(4)}).items():
            with archive.open(name, "w") as entry:
                for _ in range(20 if name.endswith("data/0") else 1):
                    entry.write(bytes(1 << 26) if name.endswith("data/0") else data)
    return file.getvalue()


def _pickled(stream: bytes) -> Make:
    """An archive around the machine code of a pickle."""
    return lambda path: attacks.zipped(
        path, {"a/data.pkl": stream, "a/version": b"3\n", "a/byteorder": b"little", "a/data/0": bytes(16)}
    )


def _tensor(value: Any) -> Make:
    return lambda path: torch.save(dict.fromkeys(Patches(8).state_dict(), value), path)


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R."
WEIGHTS: dict[str, Make] = {
    "deflated": lambda path: path.write_bytes(_bomb()),
    "opcodes": _pickled(b"\x80\x02" + b"(" * 100_000),
    "underflow": _pickled(b"\x80\x02R."),
    "set item of nothing": _pickled(b"\x80\x02}K\x01s."),
    "set item of an integer": _pickled(b"\x80\x02K\x01K\x02K\x03s."),
    "memo": _pickled(b"\x80\x02h\x05."),
    "endless text": _pickled(b"\x80\x02X\xff\xff\xff\x7f"),
    "64 GiB of bytes": _pickled(BYTEARRAY),
    "persistent": _pickled(b"\x80\x02U\x01xQ."),
    "persistent storage of 2**60": _pickled(
        b"\x80\x02(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x10tQ."
    ),
    "codec": _pickled(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R."),
    "getattr": _pickled(b"\x80\x02cbuiltins\ngetattr\nctorch\nload\nX\x01\x00\x00\x00a\x86R."),
    "dotted": _pickled(b"\x80\x04\x8c\x05torch\x8c\x0bhub.os.name\x93."),
    "deep": _pickled(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."),
    "extension": _pickled(b"\x80\x02\x82\x01."),
    "protocol": _pickled(b"\x80\xff."),
    "empty archive": lambda path: attacks.zipped(path, {}),
    "no data": lambda path: attacks.zipped(path, {"a/version": b"3\n"}),
    "two data": lambda path: attacks.zipped(path, {"a/data.pkl": b"}.", "b/data.pkl": b"}."}),
    "climbing": lambda path: attacks.zipped(path, {"../../canary": b"x", "/canary": b"x", "../data.pkl": b"}."}),
    "sparse": _tensor(torch.zeros(8).to_sparse()),
    "meta": _tensor(torch.zeros(8, device="meta")),
    "complex": _tensor(torch.zeros(8, dtype=torch.complex64)),
    "quantized": _tensor(torch.zeros(8, dtype=torch.uint8)),
    "huge by stride": _tensor(torch.zeros(1).expand(2**40)),
    "bare tensor": lambda path: torch.save(torch.zeros(3), path),
    "list": lambda path: torch.save([torch.zeros(3)], path),
    "numbers": lambda path: torch.save(dict.fromkeys(Patches(8).state_dict(), 3), path),
    "no names": lambda path: torch.save({1: torch.zeros(3)}, path),
    "NUL": lambda path: path.write_bytes(bytes(1 << 20)),
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path),
    "link to zeros": lambda path: path.symlink_to("/dev/zero"),
    "terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_none(suffix: str, victim: Victim) -> None:
    """Oracle: the refusal."""
    for name, make in WEIGHTS.items():
        path = victim.place / f"{name}{suffix}"
        make(path)
        victim.refuses(path, backbone, victim.begin_from, name=name)


def test_a_bomb_is_not_unpacked(victim: Victim) -> None:
    """Oracle: the reason of the refusal: the sizes in the archive's index, not the memory."""
    path = victim.place / "bomb.pth"
    path.write_bytes(_bomb())
    with limits(), pytest.raises(CheckpointError, match=r"bomb\.pth .* would unpack to 134\d+ bytes"):
        backbone(path)


def test_plain_tensors_that_are_none_fit_no_model(victim: Victim) -> None:
    """Oracle: the refusal of every tensor that is not there, element by element, whatever its name and shape."""
    kinds = {"sparse": torch.Tensor.to_sparse, "meta": lambda value: value.to("meta"),
             "complex": lambda value: value.to(torch.complex64)}  # fmt: skip
    for name, change in kinds.items():
        path = victim.place / f"{name}.pth"
        torch.save({key: change(value) for key, value in Patches(8).state_dict().items()}, path)
        victim.refuses(path, backbone, victim.begin_from)


@pytest.mark.parametrize("file", ["weights", *TENSOR_FILES])
def test_bad_safetensors(file: str, victim: Victim) -> None:
    """Oracle: the refusal, as weights and under a manifest that is right."""
    for name, data in attacks.bad_safetensors().items():
        if file == "weights":
            path = victim.place / f"{name[:20].replace('/', '')}.safetensors"
            path.write_bytes(data)
            victim.refuses(path, backbone, victim.begin_from, name=name)
            continue
        run = victim.attacked(lambda path, data=data: (path / file).write_bytes(data), signed=True)
        # Averages are what val and predict take, where there are any.
        entries = [victim.load, victim.resume, victim.begin_from] if "ema" in file else [victim.resume]
        victim.refuses(run, *entries, name=name)
        shutil.rmtree(run)


def test_enough_was_tried(tmp_path: Path) -> None:
    """Oracle: what the issue asks for; each file goes through two to three entries."""
    in_pickles = len(traps(tmp_path / "canary", tmp_path)) * len(WRAPPINGS)
    count = 3 * in_pickles + 2 * len(WEIGHTS) + 3 + 4 * len(attacks.bad_safetensors())
    print(f"{count} malicious files, of which {3 * in_pickles} run code where they are read carelessly")
    assert count >= 200
