"""A new part is one .py and one .yaml, and no edited file."""

import sys
from pathlib import Path

import pytest
import torch

from ccnet import build, part_checks
from ccnet.config import compose_config
from ccnet.config_errors import CONFIG_DIR


def test_a_backbone_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: it is chosen by name, its arguments are checked, and the head takes its channels."""
    (tmp_path / "own_backbone.py").write_text(
        "import torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self, width: int, weights: str | None = None) -> None:\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, width, 3, stride=8, padding=1)\n"
        "        self.out_channels, self.output_stride = [width] * 4, 8\n"
        "    def forward(self, image):\n"
        "        return [self.conv(image)] * 4\n"
    )
    configs = tmp_path / "configs"
    for path in CONFIG_DIR.rglob("*.yaml"):
        target = configs / path.relative_to(CONFIG_DIR)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    (configs / "backbone" / "own.yaml").write_text("_target_: own_backbone.Own\nwidth: 24\n")
    monkeypatch.setattr("ccnet.config.CONFIG_DIR", configs)
    monkeypatch.setattr("ccnet.config_errors.CONFIG_DIR", configs)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        config = compose_config(["backbone=own", "head=rcca", "head.channels=16"])
        part_checks.check(config)
        model = build.build_model(config, num_classes=3, pretrained=True)
        assert model.eval()(torch.zeros(1, 3, 64, 80, dtype=torch.uint8)).logits.shape == (1, 3, 8, 10)
        with pytest.raises(
            build.ConfigError, match=r"backbone.width=wide .*own.yaml|backbone.width=wide \(command line\)"
        ):
            part_checks.check(compose_config(["backbone=own", "backbone.width=wide"]), ["backbone.width=wide"])
    finally:
        sys.modules.pop("own_backbone", None)
