"""The doctor through its command line."""

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import write_cityscapes, write_folder

TOOL = Path(__file__).resolve().parents[2] / "tools" / "inspect_data.py"
FOLDER = ["dataset=folder", "dataset.class_names=[dark,bright]", "dataset.palette=[[9,9,9],[200,0,0]]"]
Result = tuple[int, str, str]
Inspect = Callable[..., Result]


@pytest.fixture
def inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Runs the tool's file in an empty folder, without a new process: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", [str(TOOL), "--workers", "0", *words])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(TOOL), run_name="__main__")
        printed = capsys.readouterr()
        return int(end.value.code or 0), printed.out, printed.err

    return run


def test_a_clean_data_set(inspect: Inspect, tmp_path: Path) -> None:
    """Oracle: exit status 0, the two files, and the words of a training command."""
    write_cityscapes(tmp_path / "data" / "cityscapes")
    status, printed, errors = inspect("+experiment=cityscapes_r2_ohem", "augmentation.crop_size=[32,48]")
    assert status == 0, printed + errors
    assert "0 errors, 2 warnings" in printed  # the stripes have six of the 19 classes, and both splits one city
    assert "mean: [" in printed
    output = tmp_path / "runs" / "inspection"
    assert {path.name for path in output.iterdir()} == {"index.html", "statistics.json"}
    assert json.loads((output / "statistics.json").read_text())["splits"]["train"]["images"] == 4


def test_mistakes_are_told_with_status_1(inspect: Inspect, tmp_path: Path) -> None:
    """Oracle: {0, 255} masks, and a split of which only the one that was asked for is looked at."""
    root = write_folder(tmp_path / "mine")
    for path in (root / "masks").glob("*/*.png"):
        Image.fromarray(((np.asarray(Image.open(path)) == 1) * 255).astype(np.uint8)).save(path)
    words = [f"dataset.root={root}", *FOLDER, "augmentation=none", "--split", "val", "--output", "out", "--full"]
    status, printed, errors = inspect(*words)
    assert status == 1, printed + errors
    assert "error: val: masks hold 0 and 255 only" in printed
    assert "train" not in json.loads((tmp_path / "out" / "statistics.json").read_text())["splits"]
    assert "masks hold 0 and 255 only" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_what_can_be_generated_is_generated_first(inspect: Inspect, tmp_path: Path) -> None:
    """Oracle: the number of scenes that the configuration asks for, in a fresh folder."""
    sizes = {"num_train": 3, "num_val": 1, "height": 32, "width": 64}
    status, printed, errors = inspect(
        "dataset=streets", *(f"+prepare.{key}={value}" for key, value in sizes.items()), "augmentation=none"
    )
    assert status == 0, printed + errors
    assert len(list((tmp_path / "data" / "streets").rglob("train/**/*_leftImg8bit.png"))) == 3


@pytest.mark.parametrize("place", ["file", "file/below", "full"])
def test_a_place_that_cannot_be_written_to_is_one_line(place: str, inspect: Inspect, tmp_path: Path) -> None:
    """Oracle: the line; where the folder cannot be made it comes before anything is looked at."""
    write_cityscapes(tmp_path / "data" / "cityscapes")
    (tmp_path / "file").touch()
    (tmp_path / "full" / "statistics.json").mkdir(parents=True)
    status, printed, errors = inspect("dataset=cityscapes", "augmentation=none", "--output", place)
    assert status == 2
    assert errors.splitlines()[-1].startswith(f"error: {Path(place)} cannot be written to (")
    assert errors.endswith("name another folder with --output\n")
    assert (printed == "") == (place != "full")


@pytest.mark.parametrize("number", ["-1", "two", "1.5"])
def test_a_number_of_workers_is_checked(number: str, inspect: Inspect, tmp_path: Path) -> None:
    """Oracle: the line, and no file."""
    status, _, errors = inspect("--workers", number)
    assert status == 2
    assert errors == f"error: argument --workers: invalid count value: '{number}'; --help lists the options\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.rot=x"], "error: unknown key dataset.rot (command line); did you mean dataset.root?"),
        (["nonsense"], "'nonsense' is neither an option nor an override of the form key=value"),
    ],
)
def test_a_mistyped_word_is_status_2(words: list[str], message: str, tmp_path: Path) -> None:
    """Oracle: the line, and no file."""
    done = subprocess.run(
        [sys.executable, str(TOOL), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
