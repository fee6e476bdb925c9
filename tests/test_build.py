"""From configuration to objects, and what a checkpoint's configuration must not ask for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ccnet import build, build_training, part_checks
from ccnet.config import compose_config
from ccnet.errors import ConfigError


def test_channels_and_classes_are_written_once(tiny_overrides: list[str]) -> None:
    """Oracle: the backbone's and the data set's own numbers."""
    config = compose_config(tiny_overrides)
    model = build.build_model(config, num_classes=7, pretrained=False)
    output = model(torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
    assert output.logits.shape[1] == output.auxiliary.shape[1] == 7


def test_without_auxiliary_weight_there_is_no_auxiliary_head(tiny_overrides: list[str]) -> None:
    """Parameters without gradient would stop DistributedDataParallel."""
    model = build.build_model(compose_config([*tiny_overrides, "loss.auxiliary_weight=0"]), 7, pretrained=False)
    assert model.auxiliary_head is None


def test_what_a_constructor_refuses_is_a_configuration_error(tiny_overrides: list[str]) -> None:
    """Oracle: the constructor's own message."""
    config = compose_config([*tiny_overrides, "head.channels=12"])
    with pytest.raises(ConfigError, match="channels must be a multiple of reduction=8, got 12"):
        build.build_model(config, 7, pretrained=False)
    config = compose_config([*tiny_overrides, "schedule.warmup_steps=400"])
    with pytest.raises(ConfigError, match=r"schedule.warmup_steps must lie in 0\.\.3"):
        build_training.build_trainer(config, build.build_model(config, 7, pretrained=False), torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("head", {"_target_": "os.system", "command": "touch canary"}),
        ("head", {"_target_": "torch.load", "f": "x"}),
        ("head", {"_target_": "ccnet.data.streets.generate", "root": "canary"}),
        ("backbone", {"_target_": "ccnet.models.backbones.weights.torch.load", "f": "x"}),
        ("head", {"_target_": "ccnet.models.heads.rcca.Nonsense"}),
        ("head", {"_target_": "ccnet.models.heads.rcca.nn.Conv2d"}),
        ("backbone", {"_target_": "ccnet.models.backbones.weights.load_weights"}),
        ("dataset", {"_target_": "ccnet.data.streets.generate", "root": "canary"}),
        ("dataset", {"_target_": "ccnet.data.cityscapes.Cityscapes", "root": {"_target_": "os.getcwd"}}),
        ("evaluation", {"_target_": "builtins.exec"}),
        ("auxiliary_head", {"_target_": ["ccnet.models.heads.fcn.FCNHead"]}),
    ],
)
def test_a_checkpoint_may_only_name_models_and_data_sets(
    name: str, part: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the refusal, and a canary file that nobody made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"the checkpoint's {name} wants"):
        part_checks.check_trusted(replace(compose_config(), **{name: part}))
    assert list(tmp_path.iterdir()) == []


def test_our_own_configurations_are_trusted() -> None:
    """Oracle: the default run."""
    part_checks.check_trusted(compose_config())
