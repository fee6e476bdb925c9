"""What the reference answers: an image and its logits, against which an imported network is held."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccnet.errors import DataError
from ccnet.models.segmentor import Segmentor

TOLERANCE = 1e-4
MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Golden:
    """`image` (1, 3, H, W) RGB 0..255 before normalisation, `main` (1, C, h, w) the logits before upsampling."""

    path: Path
    image: Tensor
    main: Tensor

    @torch.no_grad()
    def difference(self, model: Segmentor) -> float:
        """The largest absolute difference of a model's logits in eval mode.

        Raises:
            DataError: they have another shape.
        """
        logits = model.eval()(self.image).logits.double()
        if logits.shape != self.main.shape:
            raise DataError(f"{self.path}: main is {tuple(self.main.shape)}, the logits {tuple(logits.shape)}")
        return float((logits - self.main).abs().max())


def read_golden(path: Path) -> Golden:
    """Reads a .npz file with the arrays `image` and `main`; others are left alone.

    Raises:
        DataError: no such file, one that unpacks beyond measure, missing arrays, other shapes, numbers not finite.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise ValueError("no such file")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MOST_BYTES:
            raise ValueError(f"it would unpack to {unpacked} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            image, main = _tensor(arrays, "image", np.float32), _tensor(arrays, "main", np.float64)
        if image.shape[:2] != (1, 3):
            raise ValueError(f"image must be (1, 3, H, W), found {tuple(image.shape)}")
    except Exception as error:  # readers of a damaged file raise whatever they like
        raise DataError(f"{path} cannot be read as golden logits: {error}") from error
    return Golden(path, image, main)


def _tensor(arrays: "np.lib.npyio.NpzFile", name: str, kind: type[np.floating]) -> Tensor:
    array: NDArray[np.generic] = arrays[name]
    if array.ndim != 4 or array.size == 0 or array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers of shape (1, C, H, W), found {array.dtype} {array.shape}")
    with np.errstate(over="ignore"):
        converted = array.astype(kind)
    if not np.isfinite(converted).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return torch.from_numpy(converted)
