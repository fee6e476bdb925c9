"""Small data sets in the real on-disk layouts, and the quiet of a test run."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)  # two test processes share two cores

CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random tensors of a test do not depend on the tests before it, nor does its arithmetic: a run in this process has
    subnormal numbers flushed to zero."""
    torch.manual_seed(0)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def camvid() -> Path:
    """Real road photographs, where they lie beside the project."""
    if not CAMVID.is_dir():
        pytest.skip(f"{CAMVID} is not there")
    return CAMVID


def write_cityscapes(root: Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (48, 64)) -> Path:
    """Coloured stripes, labelled by their colour, in the layout of Cityscapes."""
    rng = np.random.default_rng(0)
    label_ids = np.array([7, 8, 11, 23, 26, 0], dtype=np.uint8)
    colors = rng.integers(0, 256, (len(label_ids), 3))
    for split, count in (("train", num_train), ("val", num_val)):
        for index in range(count):
            stripes = np.sort(rng.integers(0, len(label_ids), size[0]))[:, None].repeat(size[1], axis=1)
            image = np.clip(colors[stripes] + rng.normal(0, 10, (*size, 3)), 0, 255).astype(np.uint8)
            stem = f"{split}/teststadt/teststadt_{index:06d}_000019"
            _save(root / "leftImg8bit" / f"{stem}_leftImg8bit.png", image)
            _save(root / "gtFine" / f"{stem}_gtFine_labelIds.png", label_ids[stripes])
    return root


def write_folder(root: Path, splits: tuple[str, ...] = ("train", "val"), count: int = 3) -> Path:
    """Two classes, bright and dark halves, as images/ and masks/."""
    rng = np.random.default_rng(1)
    for split in splits:
        for index in range(count):
            mask = np.zeros((40, 56), dtype=np.uint8)
            mask[:, 28:] = 1
            mask[:2] = 255
            image = (mask[..., None] == 1) * 150 + rng.integers(0, 60, (40, 56, 3))
            _save(root / "images" / split / f"{index}.png", image.astype(np.uint8))
            _save(root / "masks" / split / f"{index}.png", mask)
    return root


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    """A generated Cityscapes folder."""
    return write_cityscapes(tmp_path / "cityscapes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A generated folder data set."""
    return write_folder(tmp_path / "folder")


@pytest.fixture
def make_folder() -> Callable[..., Path]:
    """Writes a folder data set where a test wants it."""
    return write_folder


TINY = [
    "backbone.depth=18",
    "backbone.weights=null",
    "head.channels=16",
    "auxiliary_head.channels=16",
    "augmentation.crop_size=[32,48]",
    "schedule.warmup_steps=1",
    "trainer.max_steps=4",
    "trainer.batch_size=2",
    "trainer.precision=fp32",
    "trainer.device=cpu",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.evaluate_every=2",
    "trainer.save_every=2",
]


@pytest.fixture
def tiny_overrides(cityscapes: Path, tmp_path: Path) -> list[str]:
    """The real recipe, shrunk to what a CPU does in a second."""
    return [
        "+experiment=cityscapes_r2_ohem",
        f"dataset.root={cityscapes}",
        f"runs_dir={tmp_path / 'runs'}",
        "name=tiny",
        *TINY,
    ]
