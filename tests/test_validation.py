"""From checkpoints to reports and submissions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import build, checkpoint, run, session, validation
from ccnet.config import compose_config
from ccnet.data.cityscapes import LABEL_IDS
from ccnet.errors import ConfigError, DataError, UserError
from ccnet.loaded_model import load_model
from tests.conftest import TINY, write_cityscapes, write_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of the recipe after two steps, on Cityscapes' layout with an unlabelled test split."""
    place = tmp_path_factory.mktemp("trained")
    data = write_cityscapes(place / "cityscapes")
    folder = data / "leftImg8bit" / "test" / "teststadt"
    folder.mkdir(parents=True)
    for path in (data / "leftImg8bit" / "val").rglob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    words = [*TINY, f"dataset.root={data}", f"runs_dir={place / 'runs'}", "name=run", "trainer.max_steps=2"]
    config = compose_config(["+experiment=cityscapes_r2_ohem", *words])
    return checkpoint.list_checkpoints(session.train(config, words) / "checkpoints")[-1]


def test_the_end_of_a_run_and_its_evaluation_say_the_same(trained: Path) -> None:
    """Oracle: the figures of training's own report, its data and its weights; only the way of asking is told apart."""
    outcome, folder = validation.validate(trained, CPU)
    assert folder == trained.parent.parent / "report" / f"{trained.name}_val"
    end, after = (json.loads((path / "metrics.json").read_text()) for path in (folder.parent, folder))
    assert {key for key in end if end[key] != after.get(key)} <= {"max_steps", "loss"}
    assert after["loss"] == pytest.approx(end["loss"], rel=1e-5)  # the trainer's memory layout sums in another order
    assert after["sha256"] == checkpoint.sha256_of(trained)
    assert after["images"] == len(outcome.images) == 2
    assert after["fingerprint"] == outcome.fingerprint
    for name in ("report.html", "images.csv", "confusion_matrix.csv", "confusion_matrix.png", "worst", "pictures"):
        assert (folder / name).exists(), name
        assert (folder.parent / name).exists(), name


def test_an_evaluation_records_how_the_model_was_asked(trained: Path, tmp_path: Path) -> None:
    """Oracle: the options in metrics.json, the folder's name, and the images of the other split."""
    words = ["evaluation.flip=true", "evaluation.average=logits", "evaluation.batch_size=2"]
    outcome, folder = validation.validate(trained, CPU, words, split="train")
    assert folder.name == f"{trained.name}_train_1_flip_logits" or folder.name == f"{trained.name}_train_flip_logits"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["overrides"] == words
    assert (metrics["split"], metrics["images"], metrics["evaluation"]["flip"]) == ("train", 4, True)
    again, elsewhere = validation.validate(trained, CPU, words, "train", tmp_path / "mine")
    assert elsewhere == tmp_path / "mine"
    assert torch.equal(again.scores.confusion, outcome.scores.confusion)


def test_a_submission_holds_label_ids_of_every_test_image(trained: Path, tmp_path: Path) -> None:
    """Oracle: the model's own answer, class by class through the published labelIds."""
    with pytest.raises(DataError, match="no labels"):
        validation.validate(trained, CPU, split="test")
    written, folder = validation.submit(trained, CPU, split="test", output=tmp_path / "out")
    assert (written, folder) == (2, tmp_path / "out")
    loaded = load_model(trained, CPU, parts=validation.PARTS)
    inference = build.build_inference(loaded.config)
    images = sorted((trained.parents[3] / "cityscapes/leftImg8bit/test").rglob("*.png"))
    assert sorted(path.name for path in folder.iterdir()) == [path.name for path in images]
    for path in images:
        image = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None]
        expected = LABEL_IDS[inference(loaded.model, image).argmax(dim=1)[0].numpy()]
        assert np.array_equal(np.asarray(Image.open(folder / path.name)), expected)


def test_only_cityscapes_has_label_ids(trained: Path, tmp_path: Path) -> None:
    """Oracle: the refusal; nothing is written."""
    write_folder(tmp_path / "folder")
    classes = json.loads((trained / "meta.json").read_text())["class_names"]
    words = [
        "dataset=folder",
        f"dataset.root={tmp_path / 'folder'}",
        f"dataset.class_names={json.dumps(classes)}",
        f"dataset.palette={[[0, 0, 0]] * len(classes)}",
    ]
    with pytest.raises(ConfigError, match="Cityscapes"):
        validation.submit(trained, CPU, words, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_checkpoints_have_folders_of_their_own(tmp_path: Path) -> None:
    """Oracle: names that tell runs, steps and repetitions apart."""
    paths = [tmp_path / "runs" / name / "checkpoints" / "step_0000002" for name in ("a", "b", "a")]
    assert run.distinct_names(paths) == ["a_step_0000002_0", "b_step_0000002", "a_step_0000002_2"]
    assert run.distinct_names([tmp_path / "copy"]) == ["copy"]


def test_reports_go_where_they_say(trained: Path, tmp_path: Path) -> None:
    """Oracle: the refusals, and what was there before: report/ that leads elsewhere, a folder that is a file."""
    run_folder = tmp_path / "run"
    stored = run_folder / "checkpoints" / trained.name
    shutil.copytree(trained, stored)
    (tmp_path / "elsewhere").mkdir()
    (run_folder / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        validation.validate(stored, CPU)
    (tmp_path / "file").write_text("mine")
    for call in (validation.validate, validation.submit):
        with pytest.raises(UserError, match="file"):
            call(stored, CPU, output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "elsewhere").iterdir()) == []
