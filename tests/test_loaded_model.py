"""From a checkpoint to a model."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ccnet import build, checkpoint
from ccnet.config import compose_config, to_json
from ccnet.data.cityscapes import Cityscapes
from ccnet.data.folder import Folder
from ccnet.errors import CheckpointError, ConfigError
from ccnet.loaded_model import load_model
from ccnet.models.segmentor import Segmentor
from ccnet.run import about
from ccnet.schema import RunConfig

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny_overrides: list[str]) -> RunConfig:
    """The real recipe, shrunk."""
    return compose_config(tiny_overrides)


def saved(folder: Path, config: RunConfig, /, **changes: Any) -> tuple[Path, Segmentor]:
    dataset = Cityscapes(config.dataset["root"], "val")
    model = build.build_model(config, dataset.num_classes, pretrained=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    meta = {**about(config, dataset.class_names, dataset.palette), "step": 7, "score": None, **changes}
    return checkpoint.save(folder, model, optimizer, meta), model


def test_the_model_answers_as_before(tmp_path: Path, config: RunConfig) -> None:
    """Oracle: the model that was saved."""
    path, model = saved(tmp_path, config)
    loaded = load_model(path, CPU)
    image = torch.randint(0, 256, (1, 3, 40, 56), dtype=torch.uint8)
    assert torch.equal(loaded.model(image).logits, model.eval()(image).logits)
    assert (loaded.step, len(loaded.class_names), loaded.palette[0]) == (7, 19, (128, 64, 128))
    assert not loaded.model.training


def test_recurrence_can_be_changed_without_training(tmp_path: Path, config: RunConfig) -> None:
    """Oracle: the head's own attribute."""
    path, _ = saved(tmp_path, config)
    assert load_model(path, CPU, ["head.recurrence=3"]).model.head.recurrence == 3
    assert load_model(path, CPU).model.head.recurrence == 2


def test_pretrained_weights_are_not_read_again(tmp_path: Path, config: RunConfig) -> None:
    """A checkpoint brings its own; the file that training began with may be gone."""
    stored = to_json(config)
    stored["backbone"]["weights"] = str(tmp_path / "gone.pth")
    path, _ = saved(tmp_path, config, config=stored)
    assert load_model(path, CPU).config.backbone["weights"] == str(tmp_path / "gone.pth")


def test_other_classes_are_refused(tmp_path: Path, config: RunConfig, folder: Path) -> None:
    """Oracle: both lists in the message."""
    path, _ = saved(tmp_path, config)
    dataset = Folder(str(folder), "val", ["dark", "bright"], [(0, 0, 0), (1, 1, 1)])
    with pytest.raises(CheckpointError, match=r"knows the 19 classes road, .* the data set has 2: dark, bright"):
        load_model(path, CPU).require_classes_of(dataset)
    broken, _ = saved(tmp_path / "other", config, class_names=["a", "b"], palette=[[0, 0, 0]] * 2)
    with pytest.raises(CheckpointError, match=r"made for another model: head\.classifier"):
        load_model(broken, CPU)


def test_a_hostile_configuration_is_refused(tmp_path: Path, config: RunConfig) -> None:
    """Oracle: the refusal and a canary that nobody made."""
    canary = tmp_path / "canary"
    about_it = about(config, ["a"], [(0, 0, 0)])
    about_it["config"]["head"] = {"_target_": "pathlib.Path.touch", "self": str(canary)}
    path, _ = saved(tmp_path, config, config=about_it["config"])
    with pytest.raises(ConfigError, match=r"the checkpoint's head wants pathlib.Path.touch"):
        load_model(path, CPU)
    assert not canary.exists()
    about_it = about(config, ["a"], [(0, 0, 0)])
    about_it["config"]["loss"]["_target_"] = "antigravity.geohash"
    harmless, _ = saved(tmp_path / "unused", config, config=about_it["config"])
    load_model(harmless, CPU)
    assert "antigravity" not in sys.modules
    broken, _ = saved(tmp_path / "b", config, palette="red")
    with pytest.raises(CheckpointError, match="does not say what it is"):
        load_model(broken, CPU)


def test_a_class_of_ones_own_must_be_named(tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: refused without, loaded with its name."""
    (tmp_path / "own_head.py").write_text(
        "from ccnet.models.heads.rcca import RCCAHead\nclass Own(RCCAHead):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config.head["_target_"] = "own_head.Own"
    path, _ = saved(tmp_path, config)
    with pytest.raises(ConfigError, match="name it with --allow-target"):
        load_model(path, CPU)
    assert type(load_model(path, CPU, allowed=["own_head.Own"]).model.head).__name__ == "Own"
