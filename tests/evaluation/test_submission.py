"""PNGs for the Cityscapes test server, scored by the server's own program."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling import args, evaluateImgLists, getPrediction
from cityscapesscripts.helpers.labels import labels, name2label
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ccnet import build
from ccnet.config import compose_config
from ccnet.data.cityscapes import Cityscapes, label_ids_of
from ccnet.data.folder import Folder
from ccnet.data.loader import evaluation_batches
from ccnet.errors import ConfigError, DataError, UserError
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.maps import Held
from ccnet.evaluation.submission import write_submission
from tests.evaluation.links import link

CPU = torch.device("cpu")


class ByRed:
    """The red channel decides on one of the first 15 classes or the 19th: some classes are never predicted."""

    def answer(self, model: nn.Module, image: Tensor) -> Held:
        assert not model.training
        return Held(F.one_hot(image[:, 0].long(), 19).permute(0, 3, 1, 2).float())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of two cities with every labelId but those of three classes, ids that are not evaluated among
    them; where there is road or sky, the colour says so."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("cityscapes")
    ids = [label.id for label in labels if label.id >= 0 and label.name not in ("train", "bus", "wall")]
    for city, frame, size in (("aachen", 1, (60, 80)), ("aachen", 2, (60, 80)), ("bochum", 1, (40, 90))):
        stem = f"val/{city}/{city}_{frame:06d}_000019"
        mask = rng.choice(ids, (size[0] // 4, size[1] // 5)).astype(np.uint8).repeat(4, axis=0).repeat(5, axis=1)
        image = rng.choice([*range(15), 18], (*size, 3)).astype(np.uint8)
        image[..., 0] = np.where(mask == 7, 0, np.where(mask == 23, 10, image[..., 0]))
        _save(root / f"leftImg8bit/{stem}_leftImg8bit.png", image)
        _save(root / f"gtFine/{stem}_gtFine_labelIds.png", mask)
    return root


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def submit(dataset: Cityscapes, folder: Path) -> int:
    batches = evaluation_batches(dataset, batch_size=2)
    return write_submission(batches, ByRed(), nn.Identity(), CPU, label_ids_of(dataset), folder)


def official_scores(predictions: Path, truth: Path) -> dict[str, Any]:
    """What cityscapesscripts makes of a folder of predictions; its settings are a copy, and its own stay."""
    settings = copy.copy(args)
    settings.evalInstLevelScore, settings.JSONOutput, settings.quiet = False, False, True
    settings.predictionPath, settings.predictionWalk = str(predictions), None
    masks = [str(path) for path in sorted(truth.rglob("*_gtFine_labelIds.png"))]
    return evaluateImgLists([getPrediction(settings, mask) for mask in masks], masks, settings)


def test_the_official_evaluator_gives_the_same_numbers(root: Path, tmp_path: Path) -> None:
    """Oracle: cityscapesscripts on the PNGs: its IoU of every class, its mean, and pixels that it counts by labelId;
    classes that are nowhere have no score there either, ids that are not evaluated count for nobody."""
    dataset = Cityscapes(str(root), "val")
    evaluate = Evaluator(lambda: evaluation_batches(dataset, batch_size=2), ByRed(), dataset.class_names, CPU)
    scores = evaluate(nn.Identity())
    assert scores is not None
    assert submit(dataset, tmp_path / "for" / "them") == 3
    theirs = official_scores(tmp_path, root)
    expected = [theirs["classScores"][name] for name in dataset.class_names]
    assert scores.iou.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert scores.mean_iou == pytest.approx(theirs["averageScoreClasses"], abs=1e-6)
    assert {name for name, iou in zip(dataset.class_names, expected, strict=True) if np.isnan(iou)} == {"train", "bus"}
    ids = [name2label[name].id for name in dataset.class_names]
    assert np.array_equal(np.array(theirs["confMatrix"])[np.ix_(ids, ids)], scores.confusion.numpy())
    assert scores.mean_iou > 0.05  # road and sky are found: zeros alone would agree with anything


def test_the_files(root: Path, tmp_path: Path) -> None:
    """Oracle: the images' own names, no folders; 8-bit grey of the image's size; the official ids of the classes; a
    second time the files are replaced, and nothing else is left."""
    dataset, official_ids = Cityscapes(str(root), "val"), {label.trainId: label.id for label in labels}
    assert [submit(dataset, tmp_path) for _ in range(2)] == [3, 3]
    names = sorted(path.name for path in (root / "leftImg8bit").rglob("*.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for pair in dataset.pairs:
        with Image.open(tmp_path / pair.image.name) as found, Image.open(pair.image) as image:
            assert (found.mode, found.size) == ("L", image.size)
            assert np.array_equal(np.asarray(found), np.vectorize(official_ids.get)(np.asarray(image)[..., 0]))


def test_a_folder_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    """Oracle: one line that names it; nothing where a link leads."""
    dataset = Cityscapes(str(root), "val")
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=rf"{folder.name} cannot be written \(.*\); .* name another folder"):
            submit(dataset, folder)
    link(tmp_path / "link", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="link is a link; what is written there would go elsewhere"):
        submit(dataset, tmp_path / "link")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_no_labels_are_needed(root: Path, tmp_path: Path) -> None:
    """Oracle: the PNGs of the same images with labels."""
    for image in (root / "leftImg8bit/val").rglob("*.png"):
        _save(tmp_path / "leftImg8bit/test" / image.parent.name / image.name, np.asarray(Image.open(image)))
    dataset = Cityscapes(str(tmp_path), "test")
    assert not dataset.labelled
    assert submit(dataset, tmp_path / "without") == submit(Cityscapes(str(root), "val"), tmp_path / "with") == 3
    for path in (tmp_path / "with").iterdir():
        assert path.read_bytes() == (tmp_path / "without" / path.name).read_bytes()


def test_a_split_without_labels_is_opened_where_none_are_needed(root: Path) -> None:
    """Oracle: the documented error of training and evaluation, and its absence; the evaluator's batches are those that
    are written."""
    (root / "leftImg8bit/test").mkdir(exist_ok=True)
    for image in (root / "leftImg8bit/val").rglob("*.png"):
        _save(root / "leftImg8bit/test" / image.parent.name / image.name, np.asarray(Image.open(image)))
    config = compose_config(["dataset=cityscapes", f"dataset.root={root}", "trainer.workers=0"])
    with pytest.raises(DataError, match="the split test has no labels"):
        build.build_dataset(config, "test")
    dataset = build.build_dataset(config, "test", labelled=False)
    evaluate = build.build_evaluator(config, dataset, CPU)
    assert [name for batch in evaluate.batches() for name in batch["name"]] == [pair.name for pair in dataset.pairs]


def test_names_never_leave_the_folder_and_modes_are_restored(tmp_path: Path) -> None:
    """Oracle: the name's last part, whatever stands before it; training mode."""
    batch = {"image": torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "name": ["../../etc/berlin_000000_000019"]}
    model = nn.Dropout().train()
    write_submission([batch], ByRed(), model, CPU, np.arange(19, dtype=np.uint8), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["berlin_000000_000019_leftImg8bit.png"]
    assert list(tmp_path.parent.rglob("berlin*")) == list((tmp_path / "a").iterdir())
    assert model.training


def test_other_data_sets_have_nothing_to_submit(folder: Path) -> None:
    """Oracle: one line that says what to use."""
    with pytest.raises(ConfigError, match="Folder has no labelIds of Cityscapes to submit; use dataset=cityscapes"):
        label_ids_of(Folder(str(folder), "val", ["a", "b"], [[0, 0, 0], [1, 1, 1]]))


def with_map(root: Path, label_map: dict[Any, int], count: int) -> NDArray[np.uint8]:
    names, colors = [f"class {index}" for index in range(count)], [(index, 0, 0) for index in range(count)]
    return Cityscapes(str(root), "val", label_map=label_map, class_names=names, palette=colors).label_ids


def test_a_label_map_of_ones_own_is_turned_round(root: Path) -> None:
    """Oracle: by hand; a class of several ids, or of none, cannot be turned round."""
    assert with_map(root, {26: 0, "7": 1, 23: 2, "default": 255}, 3).tolist() == [26, 7, 23]
    joined, nothing, rest = {26: 0, 7: 1, 8: 1, "default": 255}, {26: 0, 200: 1, "default": 255}, {26: 0, "default": 1}
    for label_map, ids in ((joined, "7, 8]"), (nothing, "]"), (rest, "0, 1, 2, 3")):
        with pytest.raises(ConfigError, match=rf"label_map makes class 1 of labelIds \[{ids}.*; a sub"):
            with_map(root, label_map, 2)
