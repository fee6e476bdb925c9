"""Folders of images become masks; a bad file is named and the rest goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ccnet.config import compose_config
from ccnet.errors import DataError
from ccnet.loaded_model import LoadedModel
from ccnet.models.segmentor import Preprocess, Segmentor
from ccnet.prediction import find_images, predict_images

PALETTE = [(10, 20, 30), (200, 100, 50)]


def bright(model: nn.Module, image: Tensor) -> Tensor:
    """Class 1 where the image is bright: an answer that a test can know."""
    light = image.float().mean(dim=1, keepdim=True) / 255
    return torch.cat([1 - light, light], dim=1)


@pytest.fixture
def loaded() -> LoadedModel:
    """The parameters are not asked, `bright` answers."""
    model = Segmentor(Preprocess(), nn.Conv2d(3, 1, 1), nn.Identity())
    return LoadedModel(model, compose_config(), ["dark", "bright"], PALETTE, Path("somewhere"), 1)


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((6, 9, 3), value, np.uint8)
    pixels[:, 5:] = 255 - value
    Image.fromarray(pixels).save(path)


def test_masks_colours_and_overlays(tmp_path: Path, loaded: LoadedModel) -> None:
    """Oracle: the half of each image that is bright."""
    write(tmp_path / "in/a.png", 20)
    write(tmp_path / "in/sub/b.jpg", 240)
    images = find_images(tmp_path / "in", tmp_path / "out")
    assert predict_images(loaded, bright, images, tmp_path / "out", opacity=1.0) == {}
    for name, left in (("a.png.png", 0), ("sub/b.jpg.png", 1)):
        mask = Image.open(tmp_path / "out/mask" / name)
        expected = np.full((6, 9), left)
        expected[:, 5:] = 1 - left
        assert np.array_equal(np.asarray(mask), expected)
        colors = np.asarray(Image.open(tmp_path / "out/color" / name))
        assert np.array_equal(colors, np.array(PALETTE)[expected])
        assert np.array_equal(np.asarray(mask.convert("RGB")), colors)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out/overlay" / name)), colors)


def test_a_bad_file_is_named_and_the_rest_goes_on(
    tmp_path: Path, loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the failures returned, printed and summarised; the good ones written."""
    write(tmp_path / "in/good.png", 20)
    (tmp_path / "in/bad.png").write_text("no picture")
    failures = predict_images(loaded, bright, find_images(tmp_path / "in", tmp_path / "out"), tmp_path / "out")
    assert list(failures) == ["bad.png"]
    assert "bad.png is not an image" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out/mask").iterdir()] == ["good.png.png"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["images"]["good.png"] == "ok"
    assert "is not an image" in summary["images"]["bad.png"]


def test_names_do_not_collide(tmp_path: Path) -> None:
    """a.jpg and a.png are two images."""
    write(tmp_path / "a.png", 1)
    write(tmp_path / "a.jpg", 1)
    assert list(find_images(tmp_path, tmp_path / "out")) == ["a.jpg", "a.png"]
    assert list(find_images(tmp_path / "a.png", tmp_path / "out")) == ["a.png"]


def test_nothing_to_predict_is_an_error(tmp_path: Path) -> None:
    """Oracle: the message."""
    with pytest.raises(DataError, match="holds no images"):
        find_images(tmp_path, tmp_path / "out")


def test_no_image_at_all_worked(tmp_path: Path, loaded: LoadedModel) -> None:
    """Oracle: a summary that says so, where no output folder was before."""
    (tmp_path / "bad.png").write_text("no picture")
    failures = predict_images(loaded, bright, find_images(tmp_path, tmp_path / "out"), tmp_path / "out")
    assert list(failures) == ["bad.png"]
    assert (tmp_path / "out" / "summary.json").is_file()


def test_results_inside_the_input_are_no_input(tmp_path: Path, loaded: LoadedModel) -> None:
    """Oracle: the same list at the second call."""
    write(tmp_path / "a.png", 1)
    images = find_images(tmp_path, tmp_path / "out")
    predict_images(loaded, bright, images, tmp_path / "out")
    assert find_images(tmp_path, tmp_path / "out") == images
