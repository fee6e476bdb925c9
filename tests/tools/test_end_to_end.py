"""The life of a run through its command lines: the real recipe, shrunk by overrides only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import checkpoint
from ccnet.config import from_yaml

ROOT = Path(__file__).resolve().parents[2]


def tool(name: str, *words: str, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a tool as a user does."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / f"{name}.py"), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the recipe has been trained for two of its four steps, then interrupted, then finished."""
    from tests.conftest import write_cityscapes

    place = tmp_path_factory.mktemp("workplace")
    write_cityscapes(place / "data" / "cityscapes")
    return place


def overrides(name: str, *more: str) -> list[str]:
    from tests.conftest import TINY

    return ["+experiment=cityscapes_r2_ohem", f"name={name}", *TINY, *more]


def test_train_resume_evaluate_predict(workplace: Path) -> None:
    """Oracle: an uninterrupted run, bit for bit; the last line's form; the files that must be there."""
    tool("train", *overrides("whole"), cwd=workplace)
    interrupt_after(workplace, "split", step=2)
    assert not (workplace / "runs/split/report").exists()
    resumed = tool("train", *overrides("split"), cwd=workplace)
    assert "continues at step 2" in resumed.stderr
    whole, split = (
        checkpoint.load(workplace / "runs" / n / "checkpoints" / "step_0000004") for n in ("whole", "split")
    )
    for left, right in ((whole.model, split.model), (whole.optimizer, split.optimizer)):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    assert losses(workplace / "runs/whole") == losses(workplace / "runs/split")
    assert "mIoU" in resumed.stdout.splitlines()[-1]
    finished = tool("train", *overrides("split"), cwd=workplace)
    assert "is finished: mIoU" in finished.stdout

    plain = tool("val", "trainer.workers=0", cwd=workplace)
    augmented = tool("val", "--checkpoint", "runs/whole", "--aug-eval", "--output", "augmented", cwd=workplace)
    for done in (plain, augmented):
        words = done.stdout.splitlines()[-1].split()
        assert words[0::2] == ["mIoU", "mAcc", "aAcc"]
        assert all(0 <= float(number) <= 100 for number in words[1::2])
    report = json.loads((workplace / "augmented" / "metrics.json").read_text())
    assert report["evaluation"]["scales"] == [0.75, 1.0, 1.25]
    assert report["evaluation"]["flip"] is True
    assert len(report["classes"]) == 19
    assert {path.name for path in (workplace / "augmented").iterdir()} == {
        "metrics.json",
        "images.csv",
        "report.html",
        "confusion_matrix.csv",
        "confusion_matrix.png",
        "pictures",
        "worst",
    }

    images = workplace / "data/cityscapes/leftImg8bit/val"
    words = ["--input", str(images), "--output", "out", "--slide", "--crop-size", "32,32", "--save-confidence"]
    done = tool("predict", *words, "--batch-size", "3", "--classes", "road,car", cwd=workplace)
    assert "2 of 2 images predicted into out" in done.stdout
    for kind in ("mask", "color", "overlay", "confidence"):
        assert len(list((workplace / "out" / kind).rglob("*.png"))) == 2
    mask = Image.open(next((workplace / "out/mask").rglob("*.png")))
    assert (mask.mode, mask.size) == ("P", (64, 48))
    assert set(np.unique(np.asarray(mask))) <= {0, 13, 255}


def interrupt_after(workplace: Path, name: str, step: int) -> None:
    """Kills a run in the step after the one whose checkpoint is there."""
    words = [sys.executable, str(ROOT / "tools/train.py"), *overrides(name)]
    with subprocess.Popen(words, cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"step {step + 1}/"):
                break
        process.kill()


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_a_sweep_has_a_folder_per_run(workplace: Path) -> None:
    """Oracle: the configuration and the report in each of them."""
    tool("train", "-m", *overrides("sweep", "trainer.max_steps=2", "head.recurrence=0,1"), cwd=workplace)
    folders = list((workplace / "runs").glob("sweep,*"))
    assert {from_yaml(folder / "config.yaml").head["recurrence"] for folder in folders} == {0, 1}
    assert all((folder / "report" / "metrics.json").is_file() for folder in folders)


def test_two_ranks_train(workplace: Path) -> None:
    """Oracle: the checkpoint at the last step, and a report over every image once."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "tools/train.py")]
    done = subprocess.run(
        [sys.executable, *words, *overrides("ranks", "trainer.max_steps=2")],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert [p.name for p in checkpoint.list_checkpoints(workplace / "runs/ranks/checkpoints")][-1] == "step_0000002"
    assert done.stdout.count("mAcc") == 1
    with (workplace / "runs/ranks/report/confusion_matrix.csv").open() as file:
        pixels = sum(int(cell) for line in list(file)[1:] for cell in line.strip().split(",")[1:])
    labelled = [np.asarray(Image.open(path)) for path in (workplace / "data/cityscapes/gtFine/val").rglob("*.png")]
    assert pixels == sum(int((mask != 0).sum()) for mask in labelled)


def test_nothing_but_the_run_is_written(workplace: Path) -> None:
    """Hydra writes no folders of its own. Oracle: the list."""
    assert {path.name for path in workplace.iterdir()} <= {"data", "runs", "augmented", "out"}
    assert {path.name for path in (workplace / "runs/whole").iterdir()} == {
        ".lock",
        "checkpoints",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "report",
        "tensorboard",
    }
