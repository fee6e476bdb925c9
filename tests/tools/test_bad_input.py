"""What a user reads after a mistake: one line, a non-zero exit status, nothing lost."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def fails(tool: str, *words: str, cwd: Path) -> str:
    """Runs a tool that has to fail; returns its message."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_mistyped_key_fails_before_anything_is_read(tmp_path: Path) -> None:
    """Oracle: the line, and an empty folder; 5 s are allowed, and the time of an idle machine is far below."""
    started = time.monotonic()
    line = fails("train.py", "+experiment=cityscapes_r2_ohem", "+trainer.nonsense=1", cwd=tmp_path)
    assert line.startswith("error: unknown key trainer.nonsense (command line)")
    assert time.monotonic() - started < 60  # a hang, not a benchmark
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["head.recurrence=two"], "head.recurrence=two (command line): input should be a valid integer"),
        (["dataset=cityscapes"], "the Cityscapes image folder data/cityscapes/leftImg8bit/train does not exist"),
        (["dataset=folder", "+experiment=typo"], "configs/experiment has no typo.yaml"),
    ],
)
def test_train_says_what_is_wrong(words: list[str], message: str, tmp_path: Path) -> None:
    """Oracle: the message, written out."""
    assert message in fails("train.py", *words, cwd=tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("tool", "words", "message"),
    [
        ("val.py", [], "there is no runs/latest: train first, or name a run or checkpoint with --checkpoint"),
        ("val.py", ["--checkpoint", "gone"], "gone: no such run or checkpoint folder"),
        ("val.py", ["--stride", "3,3"], "--crop-size and --stride need --slide"),
        ("val.py", ["--aug-evl"], "unknown option --aug-evl; did you mean --aug-eval?"),
        ("predict.py", ["--input", "gone"], "--input gone: no such file or folder"),
        ("predict.py", [], "the following arguments are required: --input"),
    ],
)
def test_val_and_predict_say_what_is_wrong(tool: str, words: list[str], message: str, tmp_path: Path) -> None:
    """Oracle: the message, written out."""
    assert message in fails(tool, *words, cwd=tmp_path)
