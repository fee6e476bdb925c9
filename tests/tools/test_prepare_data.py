"""From a folder of one's own to a trained network, with two commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.errors import DataError
from ccnet.preparation import commands
from tests.conftest import TINY, write_folder

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = "words"


def test_two_commands_train_on_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout of its own, so that nothing is written into this one. Oracle: the report of the run, whose command
    is the one that the first command printed."""
    for name in ("ccnet", "configs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_folder(tmp_path / "data" / "garden", ("",), count=5)
    monkeypatch.setattr(commands, "CONFIG_DIR", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    lines = commands.run(["folder", "data/garden"], DESCRIPTION)
    assert "wrote" in lines[-2]
    assert lines[-1] == "next: python tools/train.py dataset=garden name=garden"
    shrunk = ["backbone=resnet18", *(word for word in TINY if "depth" not in word), "trainer.max_steps=2"]
    trained = subprocess.run(
        [sys.executable, *lines[-1].split()[2:], *shrunk],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
    )
    assert trained.returncode == 0, trained.stderr
    scores = json.loads((tmp_path / "runs/garden/report/metrics.json").read_text())
    assert list(scores["classes"]) == ["class_0", "class_1"]


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    """As a user starts it. Oracle: the line, written out; nothing is written."""
    command = [sys.executable, str(ROOT / "tools/prepare_data.py"), "folder", "gone"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "error: the folder gone does not exist; name one that does\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["folder", "gone", "--bin"], ["labelme", "gone", "--out", "x"], ["flower"], []])
def test_words_that_no_command_has(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: status 2 and one line; options are written in full."""
    with pytest.raises(SystemExit, match="2"):
        commands.run(words, DESCRIPTION)
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["labelme", "gone", "--output", "out"], "the folder of annotations gone does not exist"),
        (["coco", "gone", "--images", ".", "--output", "out"], "gone cannot be read as JSON"),
        (["voc"], "data/VOCdevkit/VOC2012 does not exist; unpack VOC 2012 there, or add --download"),
    ],
)
def test_what_is_missing_is_named(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the message, written out; nothing is written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        commands.run(words, DESCRIPTION)
    assert not list(tmp_path.iterdir())


def test_the_cache_gets_the_words_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the words."""
    import ccnet.preparation.cache_command
    from tools import prepare_data

    told: list[list[str]] = []
    monkeypatch.setattr(ccnet.preparation.cache_command, "prepare_cache", told.append)
    prepare_data.main(["cache", "dataset=camvid", "seed=1"])
    prepare_data.main(["cache"])
    assert told == [["dataset=camvid", "seed=1"], []]


@pytest.mark.parametrize("command", ["folder", "labelme", "coco", "voc", "cache"])
def test_each_command_has_a_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: argparse's first line and status."""
    with pytest.raises(SystemExit) as stopped:
        commands.run([command, "--help"], DESCRIPTION)
    assert stopped.value.code == 0
    assert re.match(rf"usage: .* {command} \[-h\]", capsys.readouterr().out)


def test_a_yaml_elsewhere_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    """Oracle: the line before the next command."""
    write_folder(tmp_path / "garden", ("",))
    words = ["folder", str(tmp_path / "garden"), "--output", str(tmp_path / "own.yaml"), "--val-share", "0.5"]
    lines = commands.run(words, DESCRIPTION)
    assert lines[-2].startswith("move it into ")
    assert "drew 1 for training, 2 for validation" in lines[0]


def test_annotations_and_options_arrive(tmp_path: Path) -> None:
    """Oracle: the files, and the next command."""
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    shape = {"label": "lawn", "points": [[0, 0], [7, 2]], "shape_type": "rectangle"}
    content = {"imagePath": "a.png", "imageHeight": 6, "imageWidth": 8, "shapes": [shape]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    output = tmp_path / "out"
    for more in ([], ["--overwrite", "--ignore-rest"]):
        lines = commands.run(["labelme", str(tmp_path), "--output", str(output), *more], DESCRIPTION)
    assert lines == [
        f"{output}: 1 images with masks of 1 classes: lawn",
        f"next: python tools/prepare_data.py folder {output.as_posix()}",
    ]
    assert np.unique(np.asarray(Image.open(output / "masks/a.png"))).tolist() == [0, 255]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "lawn"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 7, 0, 7, 2]]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    words = ["coco", str(tmp_path / "coco.json"), "--images", str(tmp_path), "--output", str(tmp_path / "coco")]
    assert commands.run(words, DESCRIPTION)[0].endswith("1 images with masks of 2 classes: background, lawn")


@pytest.mark.parametrize("words", [["folder", "x", "--ignore-color", "1,2"], ["folder", "x", "--val-share", "3"]])
def test_a_wrong_option_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: argparse's line."""
    with pytest.raises(SystemExit):
        commands.run(words, DESCRIPTION)
    assert f"argument {words[2]}: invalid" in capsys.readouterr().err
