"""A model whose answer a test can know, and a predictor of it."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ccnet.config import compose_config
from ccnet.evaluation.inference import Inference
from ccnet.loaded_model import LoadedModel
from ccnet.prediction.predictor import Predictor
from tests.prediction.folders import SIZES

PALETTE = [(10, 20, 30), (200, 100, 50)]


class Bright(nn.Module):
    """Class 1 where the image is bright; out of memory at more pixels than `most` in a batch."""

    align_corners = False

    def __init__(self, most: int = 10**9) -> None:
        super().__init__()
        self.most = most
        self.asked: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> SimpleNamespace:
        batch, _, height, width = image.shape
        self.asked.append((batch, height, width))
        if batch * height * width > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7.00 GiB.")
        light = image.float().mean(dim=1, keepdim=True) / 255
        return SimpleNamespace(logits=torch.cat([1 - light, light], dim=1) * 4)


MakePredictor = Callable[..., Predictor]


@pytest.fixture
def make(tmp_path: Path) -> MakePredictor:
    """(most=, batch_size=, weights=) -> a predictor, whose checkpoint is a manifest alone."""

    def made(most: int = 10**9, batch_size: int = 1, weights: str = "of the first") -> Predictor:
        path = tmp_path / "checkpoint"
        path.mkdir(exist_ok=True)
        manifest = {"model.safetensors": {"bytes": 1, "sha256": weights}}
        (path / "MANIFEST.json").write_text(json.dumps(manifest))
        model = Bright(most).eval()
        config = compose_config([f"evaluation.batch_size={batch_size}"])
        loaded = LoadedModel(model, config, ["dark", "bright"], PALETTE, path, 1)  # type: ignore[arg-type]
        return Predictor(loaded, Inference(batch_size=batch_size), torch.device("cpu"))

    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """in/: seven images of three sizes, one of them in a sub-folder."""
    rng = np.random.default_rng(0)
    for index, size in enumerate(SIZES):
        path = tmp_path / "in" / ("sub/6.png" if index == 6 else f"{index}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "in"
