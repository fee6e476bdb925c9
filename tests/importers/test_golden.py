"""Golden logits: what a .npz file may hold, and how a network is held against it."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ccnet.errors import DataError
from ccnet.importers import golden as golden_module
from ccnet.importers.golden import read_golden
from ccnet.models.segmentor import SegmentorOutput

IMAGE = np.random.default_rng(0).uniform(0, 255, (1, 3, 4, 6)).astype(np.float32)
MAIN = IMAGE[:, :2].astype(np.float64)


class Echo(nn.Module):
    """Answers with two channels of its input, and something else while training."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error = error

    def forward(self, image: Tensor) -> SegmentorOutput:
        logits = image[:, :2].clone()
        logits[0, 0, 0, 0] += 7.0 if self.training else self.error
        return SegmentorOutput(logits)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path / "golden.npz", **{"image": IMAGE, "main": MAIN, **arrays})
    return path / "golden.npz"


@pytest.mark.parametrize("error", [0.0, 0.25, -0.25, float("nan")])
def test_the_largest_difference(error: float, tmp_path: Path) -> None:
    """Oracle: the error that was put into one logit; other arrays of the file are left alone."""
    golden = read_golden(saved(tmp_path, aux=MAIN))
    difference = golden.difference(Echo(error))  # type: ignore[arg-type]
    assert difference == pytest.approx(abs(error), abs=1e-5, nan_ok=True)
    assert (golden.image.dtype, golden.main.dtype) == (torch.float32, torch.float64)


def test_whole_numbers_are_images_too(tmp_path: Path) -> None:
    """Oracle: the same picture as floating numbers."""
    picture = IMAGE.astype(np.uint8)
    assert torch.equal(read_golden(saved(tmp_path, image=picture)).image, torch.from_numpy(picture).float())


def test_logits_of_another_shape(tmp_path: Path) -> None:
    """Oracle: both shapes in the message."""
    with pytest.raises(DataError, match=r"main is \(1, 3, 4, 6\), the logits \(1, 2, 4, 6\)"):
        read_golden(saved(tmp_path, main=IMAGE)).difference(Echo())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGE[0]}, r"image must hold numbers of shape \(1, C, H, W\), found float32 \(3, 4, 6\)"),
        ({"image": np.concatenate([IMAGE, IMAGE])}, r"image must be \(1, 3, H, W\), found \(2, 3, 4, 6\)"),
        ({"image": MAIN}, r"image must be \(1, 3, H, W\)"),
        ({"image": np.array([[[["text"]]]])}, "image must hold numbers"),
        ({"main": np.full_like(MAIN, np.inf)}, "main holds numbers that are not finite"),
        ({"image": np.full_like(IMAGE, 1e300, np.float64)}, "image holds numbers that are not finite"),
        ({"main": np.zeros((1, 2, 0, 6))}, "main must hold numbers"),
        ({"main": np.array([[[[{}]]]], dtype=object)}, "Object arrays cannot be loaded|allow_pickle"),
    ],
)
def test_arrays_that_are_no_golden_logits(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Oracle: one line that names file and array; no pickle is read."""
    with pytest.raises(DataError, match=message) as raised:
        read_golden(saved(tmp_path, **arrays))
    assert "golden.npz cannot be read as golden logits: " in str(raised.value)


def test_files_that_are_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the documented error, for no file, no archive, one without the arrays, and one beyond measure."""
    with pytest.raises(DataError, match=r"absent\.npz cannot be read"):
        read_golden(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"text\.npz cannot be read"):
        read_golden(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "empty.npz", "w"):
        pass
    with pytest.raises(DataError, match=r"empty\.npz cannot be read"):
        read_golden(tmp_path / "empty.npz")
    monkeypatch.setattr(golden_module, "MOST_BYTES", 100)
    with pytest.raises(DataError, match=r"it would unpack to \d+ bytes"):
        read_golden(saved(tmp_path))
