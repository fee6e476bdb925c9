"""From a file to a folder that is there whole and right, or not at all."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from ccnet import checkpoint
from ccnet.config import compose_config
from ccnet.errors import CheckpointError, ConfigError, DataError, UserError
from ccnet.importers import importing, mmseg, official
from ccnet.importers.classes import classes_of
from ccnet.importers.importing import Order, Result, import_checkpoint
from ccnet.loaded_model import MODEL_PARTS, load_model
from ccnet.models.backbones.resnet import ResNet
from tests.importers.foreign_files import State, mmseg_state, official_state, source

PIPE = Path("pipe")


@pytest.fixture(scope="module")
def state() -> State:
    """A small CCNet of mmsegmentation."""
    torch.manual_seed(0)
    return mmseg_state()


@pytest.fixture
def order(state: State, tmp_path: Path) -> Order:
    """To import it."""
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "file.pth")
    return Order("mmseg", tmp_path / "file.pth", tmp_path / "imported")


def logits(path: Path, image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """What an imported folder answers."""
    with torch.no_grad():
        answer: np.ndarray = load_model(path, torch.device("cpu")).model(torch.from_numpy(image)).logits.numpy()  # type: ignore[type-arg]
    return answer


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_is_a_checkpoint_of_the_same_tensors(order: Order, state: State) -> None:
    """Oracle: the file's tensors; a difference of 0; what val and predict read from a checkpoint."""
    result = import_checkpoint(order)
    assert (result.difference, result.is_kept) == (0.0, True)
    assert "no logits compared" in result.against
    found = checkpoint.load(order.output)
    assert torch.equal(found.model["head.attention.gamma"], torch.tensor([0.5]))
    assert torch.equal(found.model["backbone.layer4.1.conv2.weight"], state["backbone.layer4.1.conv2.weight"])
    assert torch.equal(found.model["preprocess.mean"].flatten(), torch.tensor([123.675, 116.28, 103.53]))
    assert (found.step, found.score, len(found.meta["class_names"])) == (0, None, 19)
    loaded = load_model(order.output, torch.device("cpu"), ["head.recurrence=1"])
    assert loaded.config.head["recurrence"] == 1
    assert loaded.config.backbone["weights"] is None
    assert (loaded.config.name, loaded.config.dataset["_target_"]) == ("mmseg", "ccnet.data.cityscapes.Cityscapes")
    assert files(order.output.parent) == {"file.pth", "imported"}


def test_classes_that_are_no_data_sets_are_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Oracle: the names of the file, in the folder and in the part that val builds."""
    torch.save(mmseg_state(classes=2, aux=False), tmp_path / "file.pth")
    (tmp_path / "classes.txt").write_text("wall\nfloor\n")
    order = Order("mmseg", tmp_path / "file.pth", tmp_path / "imported", classes=tmp_path / "classes.txt")
    import_checkpoint(order)
    loaded = load_model(order.output, torch.device("cpu"), parts=(*MODEL_PARTS, "dataset"))
    assert loaded.class_names == ["wall", "floor"]
    assert loaded.config.dataset["class_names"] == ["wall", "floor"]
    assert loaded.model.auxiliary_head is None


def with_golden(order: Order, image: np.ndarray, main: np.ndarray, name: str) -> Result:  # type: ignore[type-arg]
    golden = order.file.with_name(f"{name}.npz")
    np.savez(golden, image=image, main=main)
    return import_checkpoint(replace(order, output=order.file.with_name(name), golden=golden))


def test_golden_logits_decide(order: Order) -> None:
    """Oracle: logits of the imported network itself, then with an error of more than 1e-4, of which nothing is
    kept."""
    import_checkpoint(order)
    image = np.random.default_rng(1).uniform(0, 255, (1, 3, 41, 50)).astype(np.float32)
    main = logits(order.output, image)
    right = with_golden(order, image, main, "right")
    assert right.is_kept
    assert right.difference < 1e-6
    wrong = with_golden(order, image, main + np.float32(3e-4), "wrong")
    assert wrong.difference == pytest.approx(3e-4, rel=0.05)
    assert not wrong.is_kept
    assert files(order.file.parent) == {
        "file.pth", "imported", "right", *(f"{name}.npz" for name in ("right", "wrong"))
    }  # fmt: skip


def test_a_folder_that_is_there_is_never_touched(order: Order) -> None:
    """Oracle: the documented error, and the folder's contents."""
    order.output.mkdir()
    (order.output / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; name a folder that is not"):
        import_checkpoint(order)
    assert files(order.output) == {"mine"}
    with pytest.raises(ConfigError, match="there is no folder"):
        import_checkpoint(replace(order, output=order.output / "a" / "b"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "official"}, CheckpointError, "layer1 to layer4 have 0, 0, 0, 0 blocks"),
        ({"golden": Path("absent.npz")}, DataError, "absent.npz cannot be read as golden logits"),
        ({"classes": Path("absent.txt")}, UserError, "absent.txt cannot be read"),
        ({"classes": PIPE}, DataError, "pipe cannot be read: no such file"),
        ({"golden": PIPE}, DataError, "pipe cannot be read as golden logits: no such file"),
        ({"file": Path("absent.pth")}, CheckpointError, "absent.pth: no such file"),
    ],
)
def test_a_mistake_leaves_nothing(
    order: Order,
    change: dict[str, object],
    error: type[Exception],
    message: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Oracle: the error, and the folder as it was. A pipe that nobody writes to would be waited for."""
    if PIPE in change.values():
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no named pipes")
        pipe = tmp_path_factory.mktemp("pipes") / PIPE
        os.mkfifo(pipe)
        change = dict.fromkeys(change, pipe)
    with pytest.raises(error, match=message):
        import_checkpoint(replace(order, **change))  # type: ignore[arg-type]
    assert files(order.file.parent) == {"file.pth"}


def test_a_failure_on_the_way_leaves_nothing(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one line, and the folder as it was, when what was written cannot be read back."""

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(importing, "load_model", fail)
    with pytest.raises(CheckpointError, match=r"imported could not be written \(the disk is full\)"):
        import_checkpoint(order)
    assert files(order.file.parent) == {"file.pth"}


@pytest.mark.parametrize(("recurrence", "line"), [(None, "recurrence 2 (not told by the file)"), (2, "recurrence 2")])
def test_a_recurrence_that_nobody_told_is_said_to_be_a_default(recurrence: int | None, line: str) -> None:
    """Oracle: the end of the line, for mmsegmentation's file without a configuration and for an official one."""
    with torch.device("meta"):
        state = official_state()
    for foreign in (mmseg.read(source(mmseg_state()), recurrence), official.read(source(state), recurrence)):
        config = compose_config(foreign.overrides)
        lines = importing._lines(foreign, config, classes_of(19, foreign.told, None))
        assert lines[1].endswith(line)


@pytest.mark.parametrize("kind", ["official", "mmseg", "torchvision"])
def test_one_logit_is_refused(kind: str, tmp_path: Path) -> None:
    """Oracle: the reason: the largest of one logit is always the first."""
    if kind == "torchvision":
        network = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=1)
        state = network.state_dict()
    else:
        state = {"official": official_state, "mmseg": mmseg_state}[kind](classes=1)
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"weight gives one logit, .* would always be class 0"):
        import_checkpoint(Order(kind, tmp_path / "file.pth", tmp_path / "imported"))
    assert files(tmp_path) == {"file.pth"}


@pytest.mark.parametrize(
    ("difference", "is_kept"), [(0.0, True), (1e-4, True), (1.01e-4, False), (float("nan"), False)]
)
def test_what_is_kept(difference: float, is_kept: bool) -> None:
    """Oracle: at most 1e-4; a difference that is no number is none."""
    assert Result([], difference, "").is_kept == is_kept


@pytest.mark.parametrize(
    ("name", "width"), [("head.conva.0.weight", 1 << 20), ("head.bottleneck.3.weight", 256), ("dsn.0.weight", 0)]
)
def test_widths_beyond_measure(name: str, width: int, tmp_path: Path) -> None:
    """Oracle: one line before memory is taken for a network of them."""
    with torch.device("meta"):
        names = official_state()
    state = {**{name: torch.zeros(1) for name in names}, name: torch.zeros(width, 1)}
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=rf"{name} is \({width}, 1\), which no network here can be"):
        import_checkpoint(Order("official", tmp_path / "file.pth", tmp_path / "imported"))
    assert files(tmp_path) == {"file.pth"}


def test_a_backbone_alone_becomes_a_weight_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: torchvision's tensors, which a backbone takes; the options that have no effect are refused; what the disk
    gives back otherwise is not kept."""
    theirs = torchvision.models.resnet18()
    theirs.fc = torch.nn.Identity()
    heads = {f"{head}.0.project.weight": torch.zeros(1) for head in ("classifier", "aux_classifier")}
    torch.save(
        {**{f"backbone.{name}": value for name, value in theirs.state_dict().items()}, **heads}, tmp_path / "f.pth"
    )
    order = Order("torchvision", tmp_path / "f.pth", tmp_path / "imported")
    with pytest.raises(ConfigError, match=r"--classes has no effect: .* only the backbone"):
        import_checkpoint(replace(order, classes=tmp_path / "f.pth"))
    result = import_checkpoint(order)
    assert result.is_kept
    assert f"backbone=resnet18 backbone.weights={order.output / 'backbone.safetensors'}" in result.lines[-1]
    assert "2 tensors of aux_classifier, classifier" in result.lines[1]
    backbone = ResNet(18, weights=str(order.output / "backbone.safetensors"))
    assert torch.equal(backbone.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert files(tmp_path) == {"f.pth", "imported"}
    monkeypatch.setattr(importing, "_difference", lambda *_: 1.0)
    assert not import_checkpoint(replace(order, output=tmp_path / "wrong")).is_kept
    assert files(tmp_path) == {"f.pth", "imported"}
