"""Checkpoints: whole or absent, verified, rotated."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ccnet import checkpoint, restore, sealed_folder
from ccnet.errors import CheckpointError


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with batch norm after a step of AdamW."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, score: float | None = None) -> Path:
    """A checkpoint with averaged weights."""
    model, optimizer = trained()
    average = {name: value / 2 if value.is_floating_point() else value for name, value in model.state_dict().items()}
    return checkpoint.save(folder, model, optimizer, {"step": step, "score": score, "note": "hello"}, average)


def assert_equal(left: Any, right: Any) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9)])
def test_what_was_saved_comes_back(tmp_path: Path, kind: Callable[..., torch.optim.Optimizer]) -> None:
    """Oracle: the state dicts before saving, bit for bit; the learning rate is that of the configuration."""
    model, _ = trained()
    optimizer = kind(model.parameters(), lr=0.25)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    path = checkpoint.save(tmp_path, model, optimizer, {"step": 3, "score": 0.5})
    other, _ = trained()
    restored = kind(other.parameters(), lr=1.0)
    found = checkpoint.load(path)
    restore.restore_model(other, found.model, path)
    restore.restore_optimizer(restored, found)
    assert_equal(dict(other.state_dict()), dict(model.state_dict()))
    assert_equal(restored.state_dict()["state"], optimizer.state_dict()["state"])
    assert [group["lr"] for group in restored.param_groups] == [1.0]
    assert (found.step, found.score, path.name) == (3, 0.5, "step_0000003")


def test_averaged_weights_are_what_a_checkpoint_is_used_with(tmp_path: Path) -> None:
    """Oracle: the state that was given, bit for bit; the weights' hash is that of the file that holds them."""
    model, optimizer = trained()
    average = {name: value + 1 for name, value in model.state_dict().items()}
    with_average = checkpoint.save(tmp_path, model, optimizer, {"step": 1, "score": None}, average)
    without = checkpoint.save(tmp_path, model, optimizer, {"step": 2, "score": None})
    for path, weights, name in ((with_average, average, "ema"), (without, dict(model.state_dict()), "model")):
        found = checkpoint.load(path)
        assert_equal(found.weights, weights)
        assert_equal(found.model, dict(model.state_dict()))
        file = path / f"{name}.safetensors"
        assert checkpoint.sha256_of(path) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoint.load(without).ema is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["model", "optimizer", "average"])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, part: str, value: float) -> None:
    """Oracle: the refusal, which names the tensor; the folder before."""
    kept = save(tmp_path, 1)
    model, optimizer = trained()
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moment = optimizer.state_dict()["state"][0]["exp_avg"]
    spoilt = {"model": model.state_dict()["1.running_var"], "optimizer": moment, "average": average["0.weight"]}[part]
    spoilt.view(-1)[0] = value
    with pytest.raises(CheckpointError, match=r"step_0000002.*is not saved: .* holds numbers that are not finite"):
        checkpoint.save(tmp_path, model, optimizer, {"step": 2, "score": None}, average)
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "meta.json"])
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
    (path / sealed_folder.MANIFEST).write_text("{")
    with pytest.raises(CheckpointError, match=r"MANIFEST.json cannot be read"):
        checkpoint.load(path)
    (path / sealed_folder.MANIFEST).write_text("[]")
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
        checkpoint.rotate(tmp_path, 2, save(tmp_path, step, score))
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "step_0000002",
        "step_0000004",
        "step_0000005",
    ]
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert best.name == "step_0000002"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000002", "step_0000004", "step_0000005"]


def test_a_damaged_newer_one_is_no_obstacle(tmp_path: Path) -> None:
    """Oracle: the run that has skipped it saves on and rotates; it counts for nothing, and is no best one either."""
    save(tmp_path, 1, 0.1)
    save(tmp_path, 2)
    damaged = save(tmp_path, 8, 0.9)
    meta = (damaged / "meta.json").read_bytes()
    (damaged / "meta.json").write_bytes(meta.replace(b"hello", b"hallo"))
    for step in (3, 4):
        checkpoint.rotate(tmp_path, 1, save(tmp_path, step))
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "step_0000001",
        "step_0000004",
        "step_0000008",
    ]
    best = checkpoint.best(tmp_path)
    assert best is not None
    assert best.name == "step_0000001"


def test_without_scores_the_newest_is_the_best(tmp_path: Path) -> None:
    """Oracle: the order of steps."""
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    assert checkpoint.best(tmp_path) == newest


def test_scores_that_cannot_be_read_are_no_scores(tmp_path: Path) -> None:
    """Oracle: the one with a score that can be read, however low, then any that is whole."""
    low, damaged, without = save(tmp_path, 1, 0.01), save(tmp_path, 2, 0.9), save(tmp_path, 3)
    for text in ("{", "[]", '{"step": 2, "score": "1"}', '{"step": 2, "score": 1e999}', '{"step": true, "score": 1}'):
        (damaged / "meta.json").write_text(text)
        assert checkpoint.best(tmp_path) == low
    (low / "meta.json").unlink()
    assert checkpoint.best(tmp_path) == without


def test_the_state_of_a_part_is_there_or_missed(tmp_path: Path) -> None:
    """Oracle: the values given; the refusal names the part."""
    path = checkpoint.save(tmp_path, *trained(), {"step": 1, "score": None, "parts": {"log": {"last_step": 1}, "x": 3}})
    found = checkpoint.load(path)
    assert found.state_of("log") == {"last_step": 1}
    for name in ("trainer", "x"):
        with pytest.raises(CheckpointError, match=f"meta.json has no state of {name}"):
            found.state_of(name)


def test_the_optimizer_comes_back_in_the_layout_of_its_parameters(tmp_path: Path) -> None:
    """Oracle: the strides of channels-last parameters; safetensors keeps none."""
    model, _ = trained()
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    found = checkpoint.load(checkpoint.save(tmp_path, model, optimizer, {"step": 1, "score": None}))
    other = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    restore.restore_optimizer(other, found)
    weight = model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert other.state[weight]["momentum_buffer"].stride() == weight.stride()
    assert_equal(other.state_dict(), optimizer.state_dict())


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Oracle: the names and shapes that differ."""
    found = checkpoint.load(save(tmp_path, 1))
    wider = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    difference = r"0.weight is \(4, 3, 3, 3\), the model's \(5, 3, 3, 3\)"
    with pytest.raises(CheckpointError, match=f"step_0000001 was made for another model: {difference}"):
        restore.restore_model(wider, found.model, found.path)
    with pytest.raises(CheckpointError, match=r"1.weight is unknown"):
        restore.restore_model(nn.Sequential(nn.Conv2d(3, 4, 3)), found.weights, found.path)
    with pytest.raises(CheckpointError, match=r"is for another optimizer"):
        restore.restore_optimizer(torch.optim.AdamW(wider.parameters()), found)


def test_one_killed_while_it_was_replaced_counts(tmp_path: Path) -> None:
    """Oracle: the order by hand: before the new one of its step, after those of the steps before."""
    save(tmp_path, 1)
    replaced = save(tmp_path, 2).rename(tmp_path / f"step_0000002{sealed_folder.REPLACED}")
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step_0000001", replaced.name]
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert (found.step, found.path) == (2, replaced)
    second = save(tmp_path, 2, 0.5)
    assert not replaced.exists()
    assert checkpoint.list_checkpoints(tmp_path)[-1] == second


def test_folders_with_other_names_do_not_count(tmp_path: Path) -> None:
    """Oracle: the list of names; a step beyond seven digits comes after the others."""
    paths = [save(tmp_path, step) for step in (3, 9_999_999, 10_000_000)]
    for name in ("step_", "step_x", "step_0000001.aside", "step_0000001.replaced.replaced", "step_0000007"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_0000001.aside" / "MANIFEST.json").touch()
    assert checkpoint.list_checkpoints(tmp_path) == paths
