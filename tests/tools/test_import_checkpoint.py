"""The importer through its command line, and val and predict on what it wrote."""

import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.importers import importing
from tests.conftest import write_cityscapes
from tests.importers.foreign_files import mmseg_state

TOOLS = Path(__file__).resolve().parents[2] / "tools"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a tool's file in an empty folder, without a new process: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(tool: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [tool, *words])
        status = 0
        try:
            runpy.run_path(str(TOOLS / f"{tool}.py"), run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_val_and_predict_work_on_what_was_imported(run: Run, tmp_path: Path) -> None:
    """Oracle: exit status 0, a score of 19 classes by their names, a mask of the image's size."""
    torch.save({"state_dict": mmseg_state(), "meta": {}}, "ccnet.pth")
    write_cityscapes(tmp_path / "data" / "cityscapes", num_train=1, num_val=1)
    status, printed, errors = run(
        "import_checkpoint", "mmseg", "ccnet.pth", "--output", "imported", "--recurrence", "1"
    )
    assert status == 0, errors
    lines = printed.splitlines()
    assert "ResNet-18 v1c, output stride 8, recurrence 1" in lines
    assert lines[-2] == "imported into imported"
    assert lines[-1].startswith("largest difference from the tensors of ccnet.pth")
    assert float(lines[-1].split()[-1]) == 0.0
    status, printed, errors = run("val", "--checkpoint", "imported", "--device", "cpu", "trainer.workers=0")
    assert status == 0, errors
    assert "sidewalk" in printed
    assert "mIoU" in printed.splitlines()[-1]
    Image.fromarray(np.zeros((33, 47, 3), np.uint8)).save("image.png")
    status, _, errors = run(
        "predict", "--checkpoint", "imported", "--device", "cpu", "--input", "image.png", "--output", "out"
    )
    assert status == 0, errors
    with Image.open(next((tmp_path / "out" / "mask").rglob("*.png"))) as mask:
        assert mask.size == (47, 33)


def test_the_exit_status_follows_the_golden_logits(run: Run, tmp_path: Path) -> None:
    """Oracle: 1 and no folder where they differ, with the difference as the last word; 2 for a mistake."""
    torch.save(mmseg_state(), "ccnet.pth")
    image = np.zeros((1, 3, 9, 9), np.float32)
    np.savez("golden.npz", image=image, main=np.full((1, 19, 2, 2), 1e3))
    words = ("import_checkpoint", "mmseg", "ccnet.pth", "--output", "imported", "--golden", "golden.npz")
    status, printed, _ = run(*words)
    assert status == 1
    assert "imported is not kept" in printed.splitlines()[-2]
    assert float(printed.splitlines()[-1].split()[-1]) > 100
    assert not (tmp_path / "imported").exists()
    status, _, errors = run("import_checkpoint", "official", "ccnet.pth", "--output", "imported")
    assert (status, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: ccnet.pth is not what was told: ")


@pytest.mark.parametrize(
    "words", [["--recurrence", "-1"], ["--recurrence", "two"], ["--recurrence", "65"], ["--rec", "1"]]
)
def test_options_that_are_none(words: list[str], run: Run) -> None:
    """Oracle: status 2 and one line, before anything is read."""
    status, printed, errors = run("import_checkpoint", "mmseg", "x.pth", "--output", "y", *words)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ")
    assert words[0] in errors


def test_a_termination_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: status 143, no file beside the input, and the handler that was there before."""

    def terminate(*_: object) -> None:
        assert signal.getsignal(signal.SIGTERM) != before, "it would end the tests"
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    torch.save(mmseg_state(), "ccnet.pth")
    monkeypatch.setattr(importing, "load_model", terminate)
    assert run("import_checkpoint", "mmseg", "ccnet.pth", "--output", "imported")[0] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["ccnet.pth"]
    assert signal.getsignal(signal.SIGTERM) == before
