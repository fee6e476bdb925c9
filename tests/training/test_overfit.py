"""Two images for ever: what +debug=overfit promises of every model."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import session
from ccnet.config import compose_config
from ccnet.data.loader import permutation

NUM_IMAGES = 16


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Pictures of noise, each of one class: nothing tells it but remembering the picture. In the order in which seed 0
    takes them the classes alternate, so that the first two are one of each."""
    rng = np.random.default_rng(0)
    classes = np.zeros(NUM_IMAGES, dtype=np.uint8)
    classes[permutation(0, 0, NUM_IMAGES)[1::2]] = 1
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / kind / split).mkdir(parents=True)
        for index in range(NUM_IMAGES if split == "train" else 1):
            image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            mask = np.full((32, 32), classes[index], dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / split / f"{index:02}.png")
            Image.fromarray(mask).save(tmp_path / "masks" / split / f"{index:02}.png")
    return tmp_path


def last_loss(noise: Path, *overrides: str) -> float:
    """The mean loss of the last steps that a run logs."""
    words = [
        "+debug=overfit",
        *("dataset=folder", f"dataset.root={noise}", "dataset.class_names=[a,b]"),
        "dataset.palette=[[0,0,0],[255,255,255]]",
        *("backbone=patches", "backbone.channels=8", "augmentation.crop_size=[16,16]", "loss=cross_entropy"),
        *("head=rcca", "head.channels=8", "head.reduction_kernel=1", "head.fusion_kernel=1"),
        *("optimizer.lr=0.01", "trainer.max_steps=120", "trainer.device=cpu", f"runs_dir={noise / 'runs'}", *overrides),
    ]
    folder = session.train(compose_config(words), words)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row][-1]


def test_the_loss_goes_to_almost_zero(noise: Path) -> None:
    """Oracle: the entropy of two equally likely classes, ln 2 = 0.69: in so many steps two pictures, one of each, can
    be remembered, and all of them cannot."""
    assert last_loss(noise) < 0.05
    assert last_loss(noise, "trainer.overfit_batches=0", "name=all") > 0.5
