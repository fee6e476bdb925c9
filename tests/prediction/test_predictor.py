"""The Python interface: what it takes, what it returns, and that it leaves the process as it was."""

import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ccnet
from ccnet import build, checkpoint, run
from ccnet.config import compose_config
from ccnet.errors import CheckpointError, ConfigError, DataError
from ccnet.prediction.predictor import available_device, batched
from tests.prediction.conftest import PALETTE, MakePredictor

RGB = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
EXPECTED = (RGB.astype(int).sum(axis=2) * 2 > 3 * 255).astype(np.uint8)


def test_a_path_a_picture_and_an_array_are_one_image(make: MakePredictor, tmp_path: Path) -> None:
    """Oracle: the answer by hand."""
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    model = make()
    for image in (path, str(path), Image.open(path), Image.fromarray(RGB), RGB, RGB[:, ::-1][:, ::-1]):
        mask = model.predict(image)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, EXPECTED)
    grey = RGB[..., 0]
    assert np.array_equal(model.predict(grey), grey > 127)
    assert np.array_equal(model.predict(Image.fromarray(RGB).convert("CMYK")), EXPECTED)


def test_a_list_gives_a_list_in_its_order(make: MakePredictor) -> None:
    """Oracle: the images one by one; those of one size that follow each other are asked about together."""
    model = make(batch_size=2)
    images = [RGB, RGB[::-1], RGB[:, :5], RGB]
    masks = model.predict(images)
    assert [mask.tolist() for mask in masks] == [model.predict(image).tolist() for image in images]
    asked: Any = model.loaded.model
    assert asked.asked[:3] == [(2, 12, 17), (1, 12, 5), (1, 12, 17)]
    assert model.predict([]) == []


def test_upright_as_exif_says(make: MakePredictor, tmp_path: Path) -> None:
    """Oracle: NumPy's rotation, for a file and for an open picture alike."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    model = make()
    for image in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(model.predict(image), np.rot90(EXPECTED, -1))


def test_probabilities(make: MakePredictor) -> None:
    """Oracle: they sum to one, and the mask is where they are highest."""
    found = make().predict_probabilities(RGB)
    assert (found.shape, found.dtype) == ((2, 12, 17), np.float32)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    assert np.array_equal(found.argmax(axis=0), EXPECTED)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (RGB.astype(np.float32), r"must be uint8 RGB \(H, W, 3\) or grey \(H, W\), 0..255; got float32 \(12, 17, 3\)"),
        (RGB[None], r"got uint8 \(1, 12, 17, 3\)"),
        (np.zeros((4, 5, 4), np.uint8), r"got uint8 \(4, 5, 4\)"),
        (np.zeros((0, 5), np.uint8), r"got uint8 \(0, 5\)"),
        (torch.zeros(3, 4, 4), "must be a path, a Pillow image or an array, not Tensor"),
        (None, "not NoneType"),
        (Image.new("F", (3, 3)), "the image has 32-bit F pixels"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str, make: MakePredictor) -> None:
    """Oracle: the message."""
    with pytest.raises(DataError, match=message):
        make().predict(image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_damaged_picture_that_is_open_already_is_refused(kind: str, make: MakePredictor) -> None:
    """Pillow decodes it when it is asked for pixels. Oracle: one line."""
    buffer = io.BytesIO()
    Image.fromarray(np.tile(RGB, (9, 9, 1))).save(buffer, kind)
    picture = Image.open(io.BytesIO(buffer.getvalue()[: len(buffer.getvalue()) * 3 // 4])) if kind != "TIFF" else None
    if picture is None:  # its directory stands at the end; a file that is closed is of no use either
        picture = Image.open(buffer)
        buffer.close()
    with pytest.raises(DataError, match=r"^the image cannot be decoded \(.*\)$"):
        make().predict(picture)


def test_overlay_classes_and_name(make: MakePredictor) -> None:
    """Oracle: NumPy's indexing; a mask of another size is refused."""
    model = make()
    picture = model.overlay(RGB, EXPECTED, opacity=1.0)
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), np.array(PALETTE)[EXPECTED])
    plain = model.overlay(RGB, np.full((12, 17), 255, np.uint8))
    assert np.array_equal(np.asarray(plain), RGB)
    with pytest.raises(DataError, match="does not fit an image of"):
        model.overlay(RGB, EXPECTED[1:])
    assert model.class_names == ["dark", "bright"]
    assert model.palette == PALETTE
    assert "checkpoint on cpu: 2 classes (dark, bright)" in repr(model)


def test_threads_may_ask(make: MakePredictor) -> None:
    """Oracle: the answer by hand, in every thread."""
    model, wrong = make(), []

    def ask(turn: int) -> None:
        if not np.array_equal(model.predict(np.roll(RGB, turn, axis=0)), np.roll(EXPECTED, turn, axis=0)):
            wrong.append(turn)

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/one with an untrained model of two classes, which is the latest; the current folder."""
    config = compose_config(["backbone=patches", "head=fcn", "auxiliary_head=fcn"])
    model = build.build_model(config, 2, pretrained=False)
    meta = {**run.about(config, ["dark", "bright"], PALETTE), "step": 1, "score": None}
    checkpoint.save(tmp_path / "runs/one/checkpoints", model, torch.optim.SGD(model.parameters(), 1.0), meta)
    (tmp_path / "runs/latest").write_text("one\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_three_lines(trained: Path) -> None:
    """Oracle: the model's own forward pass on the same pixels; nothing of the process is changed."""
    before = (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.initial_seed())
    for name in ("runs/latest", None, trained / "runs/one"):
        model = ccnet.load(name, device="cpu")
        mask = model.predict(RGB)
        with torch.no_grad():
            logits = model.loaded.model(torch.from_numpy(RGB.copy()).permute(2, 0, 1)[None]).logits
        logits = torch.nn.functional.interpolate(logits, RGB.shape[:2], mode="bilinear")
        assert np.array_equal(mask, logits.argmax(dim=1)[0])
    assert before == (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.initial_seed())
    assert not torch.distributed.is_initialized()
    flipped = ccnet.load(device="cpu", overrides=["evaluation.flip=true"])
    assert flipped.ask.inference.flip


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"checkpoint": "gone"}, CheckpointError, "gone: no such run or checkpoint folder"),
        ({"overrides": ["optimizer.lr=1"]}, ConfigError, "the override optimizer.lr has no effect here"),
        ({"overrides": ["evaluation.flp=true"]}, ConfigError, "did you mean evaluation.flip"),
        ({"device": "cuda:99"}, ConfigError, "device cuda:99 is not there; use auto or cpu"),
        ({"device": "tpu"}, ConfigError, "device tpu is unknown; there are auto, cuda, mps, cpu"),
        ({"device": "cpu:99"}, ConfigError, "device cpu:99 is not there; use auto or cpu"),
        ({"device": "cpu:"}, ConfigError, "device cpu: is unknown"),
        ({"overrides": ["backbone.weights=null"]}, ConfigError, "the checkpoint brings the weights"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], error: type[Exception], message: str, trained: Path) -> None:
    """Oracle: the message."""
    with pytest.raises(error, match=message):
        ccnet.load(**given)


def test_auto_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: CUDA before MPS before the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert available_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert available_device("auto") == torch.device("cuda")


def test_the_first_of_a_kind_may_be_counted() -> None:
    """Oracle: PyTorch's own device."""
    assert available_device("cpu:0") == torch.device("cpu:0")


def test_equal_neighbours_are_put_together() -> None:
    """Oracle: written out."""
    assert list(batched("aaabca", lambda letter: letter, 2)) == [["a", "a"], ["a"], ["b"], ["c"], ["a"]]


def test_importing_ccnet_brings_no_torch() -> None:
    """Oracle: a fresh interpreter."""
    words = "import sys, ccnet; sys.exit('torch' in sys.modules or not callable(ccnet.load))"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
