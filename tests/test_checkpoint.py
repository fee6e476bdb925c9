"""Checkpoints: whole or absent, verified, rotated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ccnet import checkpoint
from ccnet.errors import CheckpointError


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with batch norm after a step of AdamW."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, score: float | None = None) -> Path:
    return checkpoint.save(folder, *trained(), {"step": step, "score": score, "note": "hello"})


def assert_equal(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_what_was_saved_comes_back(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    """Oracle: the state dicts before saving, bit for bit; SGD's momentum starts as None."""
    model, _ = trained()
    optimizer = kind(model.parameters(), lr=0.25)
    optimizer.step()
    path = checkpoint.save(tmp_path, model, optimizer, {"step": 3, "score": 0.5})
    other, _ = trained()
    restored = kind(other.parameters(), lr=1.0)
    found = checkpoint.load(path)
    checkpoint.restore_model(other, found)
    checkpoint.restore_optimizer(restored, found)
    assert_equal(dict(other.state_dict()), dict(model.state_dict()))
    assert_equal(restored.state_dict(), optimizer.state_dict())
    assert (found.step, found.score, path.name) == (3, 0.5, "step_0000003")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "meta.json"])
def test_every_damage_is_found(tmp_path: Path, name: str) -> None:
    """Oracle: the damage done: single bits, truncation, an exchanged file, none at all."""
    path = save(tmp_path, 1)
    file, data = path / name, (path / name).read_bytes()
    for position in range(0, len(data), max(1, len(data) // 50)):
        file.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            checkpoint.load(path)
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(path)
    file.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(path)
    file.write_bytes(data)
    checkpoint.load(path)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Oracle: the message."""
    path = save(tmp_path, 1)
    (path / checkpoint.MANIFEST).write_text("{")
    with pytest.raises(CheckpointError, match=r"MANIFEST.json cannot be read"):
        checkpoint.load(path)
    (path / checkpoint.MANIFEST).write_text("[]")
    with pytest.raises(CheckpointError, match=r"MANIFEST.json is not a manifest"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        checkpoint.load(tmp_path)


def test_the_newest_whole_one_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the step of the last undamaged one."""
    assert checkpoint.newest(tmp_path) is None
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    (second / "model.safetensors").write_bytes(b"")
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "skipping a damaged checkpoint" in caplog.text
    (first / "meta.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        checkpoint.newest(tmp_path)


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    """Oracle: the names that must stay."""
    for step, score in ((1, 0.2), (2, 0.9), (3, None), (4, 0.3), (5, None)):
        save(tmp_path, step, score)
        checkpoint.rotate(tmp_path, keep=2)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "step_0000002",
        "step_0000004",
        "step_0000005",
    ]
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert best.name == "step_0000002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000002", "step_0000004", "step_0000005"]


def test_without_scores_the_newest_is_the_best(tmp_path: Path) -> None:
    """Oracle: the order of steps."""
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    assert checkpoint.best(tmp_path) == newest


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the folder before; the message names target and size."""
    kept = save(tmp_path, 1)
    calls = iter(range(10))

    def full(_: int) -> None:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(
        CheckpointError, match=r"step_0000002 could not be written .*No space left.* it needs \d+ bytes"
    ):
        save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [kept]
    checkpoint.load(kept)


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Oracle: the names and shapes that differ."""
    found = checkpoint.load(save(tmp_path, 1))
    with pytest.raises(
        CheckpointError, match=r"made for another model: 0.weight is \(4, 3, 3, 3\), the model's \(5, 3"
    ):
        checkpoint.restore_model(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), found)
    with pytest.raises(CheckpointError, match=r"1.weight is unknown"):
        checkpoint.restore_model(nn.Sequential(nn.Conv2d(3, 4, 3)), found)


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    """Oracle: the list of names."""
    (tmp_path / ".step_0000001-99999").mkdir()
    path = save(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [path]
