"""What the reference implementations answer: ../shared/parity, whose README states the rule of weights and input."""

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccnet import loaded_model
from ccnet.importers import importing
from ccnet.loaded_model import LoadedModel
from ccnet.models.segmentor import Segmentor

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A reference's state, its normalised input (1, 3, H, W) and the logits (1, 19, h, w) that it answers with."""

    state: dict[str, Tensor]
    image: Array
    main: NDArray[np.float64]
    aux: NDArray[np.float64]


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """The shape of each floating-point tensor of a reference; skips where it does not lie beside the project."""
    path = PARITY / f"{name}.keys.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}


def reference(name: str) -> Reference:
    """A reference with the weights of the rule."""
    shapes = shapes_of(name)
    with np.load(PARITY / f"{name}.npz") as golden:
        seed, height, width = (int(golden[key]) for key in ("seed", "height", "width"))
        state = {key: torch.from_numpy(_weight(key, shape, seed)) for key, shape in shapes.items()}
        image = np.random.default_rng(seed).standard_normal((1, 3, height, width)).astype(np.float32)
        return Reference(state, image, golden["main"], golden["aux"])


def assert_equal_logits(
    golden: Reference, kind: str, image: NDArray[np.floating], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports a file with the reference's state, and holds the network that the disk gives back against its logits.

    Args:
        golden: the reference.
        kind: of import.
        image: what the normalisation makes the reference's input of.
        folder: for files of 300 MB, which are gone afterwards.
        monkeypatch: keeps the network.
    """
    models: list[Segmentor] = []

    def load_model(*arguments: Any) -> LoadedModel:
        loaded = loaded_model.load_model(*arguments)
        models.append(loaded.model)
        return loaded

    monkeypatch.setattr(importing, "load_model", load_model)
    torch.save(golden.state, folder / "file.pth")
    np.savez(folder / "golden.npz", image=image.astype(np.float32), main=golden.main)
    order = importing.Order(kind, folder / "file.pth", folder / "imported", 2, golden=folder / "golden.npz")
    assert importing.import_checkpoint(order).difference < 1e-5
    shutil.rmtree(folder / "imported")
    order.file.unlink()
    with torch.no_grad():
        features = models[0].backbone(torch.from_numpy(golden.image))
        for head, expected in ((models[0].head, golden.main), (models[0].auxiliary_head, golden.aux)):
            assert float((head(features)[0] - torch.from_numpy(expected)).abs().max()) < 1e-5


def _weight(key: str, shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{key}".encode()))
    n = rng.standard_normal(shape).astype(np.float32)
    if key.endswith("running_var"):
        return np.asarray(1 + 0.1 * np.abs(n), np.float32)
    if key.endswith("running_mean"):
        return np.asarray(0.1 * n, np.float32)
    if "gamma" in key:
        return np.full(shape, 0.5, np.float32)
    if len(shape) == 4:
        return np.asarray(n * np.float32(np.sqrt(2.0 / np.prod(shape[1:]))), np.float32)
    if key.endswith("weight"):  # of norms: one in seven is negative
        sign = np.where(np.arange(shape[0]) % 7 == 3, -1, 1).astype(np.float32)
        return (1 + 0.1 * n) * sign * 0.5
    return np.asarray(0.1 * n, np.float32)
