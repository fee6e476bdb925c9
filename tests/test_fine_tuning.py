"""What a new run takes over from an old one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ccnet import checkpoint
from ccnet.errors import CheckpointError
from ccnet.fine_tuning import initialize
from ccnet.models.backbones.patches import Patches
from ccnet.models.heads.fcn import FCNHead
from ccnet.models.heads.rcca import RCCAHead
from ccnet.models.segmentor import Preprocess, Segmentor

THREE = ["road", "sky", "car"]
FIVE = [*THREE, "tree", "house"]
CLASSIFIERS = {f"{head}.classifier.{kind}" for head in ("head", "auxiliary_head") for kind in ("weight", "bias")}

State = dict[str, Tensor]


def model_of(
    classes: Sequence[str], seed: int, channels: int = 8, auxiliary: bool = True, red: float = 120.0
) -> Segmentor:
    """Like all tests' models, but every tensor depends on the seed."""
    torch.manual_seed(seed)
    backbone, count = Patches(channels), len(classes)
    auxiliary_head = FCNHead(backbone.out_channels, count, 8) if auxiliary else None
    head = RCCAHead(backbone.out_channels, count, 8)
    model = Segmentor(Preprocess((red, 110.0, 100.0)), backbone, head, auxiliary_head)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
        elif "num_batches" in name:
            buffer.fill_(seed)
    return model


def state_of(model: Segmentor) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def save(folder: Path, model: Segmentor, classes: object, ema: State | None = None, step: int = 1) -> Path:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    meta = {"step": step, "score": None, "class_names": classes}
    return checkpoint.save(folder / "checkpoints", model, optimizer, meta, ema)


def changed(before: State, model: Segmentor) -> set[str]:
    """Names of the tensors that are no longer what they were."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def assert_taken(names: set[str], model: Segmentor, source: State) -> None:
    for name in names:
        assert torch.equal(model.state_dict()[name], source[name]), name


def test_from_three_classes_to_five(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the tensors of both models: all of the old one, but for the classifiers, which are the fresh ones."""
    old, new = model_of(THREE, 1), model_of(FIVE, 2)
    save(tmp_path, old, THREE)
    fresh, source = state_of(new), state_of(old)
    with caplog.at_level(logging.INFO, "ccnet"):
        report = initialize(new, str(tmp_path), FIVE, "runs")
    taken = fresh.keys() - CLASSIFIERS
    assert_taken(taken, new, source)
    assert_taken(CLASSIFIERS, new, fresh)
    assert report.taken == len(taken) == len(fresh) - 4
    assert report.anew == dict.fromkeys(report.anew, "3 -> 5 classes")
    assert (report.anew.keys(), report.unused) == (CLASSIFIERS, [])
    line = caplog.records[-1].getMessage()
    assert f": {len(taken)} of {len(fresh)} tensors taken; made anew: head.classifier.weight (3 -> 5 classes)," in line
    assert line.endswith("; not used: nothing")


def test_equal_classes_keep_the_classifier(tmp_path: Path) -> None:
    """Oracle: every tensor of the old model; the run's folder and its checkpoint are the same source."""
    old = model_of(THREE, 1)
    path = save(tmp_path / "a", old, THREE)
    for source in (path, tmp_path / "a"):
        new = model_of(THREE, 2)
        report = initialize(new, str(source), THREE, str(tmp_path))
        assert_taken(set(state_of(old)), new, state_of(old))
        assert (report.taken, report.anew, report.source) == (len(state_of(old)), {}, path)


@pytest.mark.parametrize("classes", [["road", "sky", "cat"], ["sky", "road", "car"]])
def test_as_many_other_classes_make_the_classifier_anew(tmp_path: Path, classes: list[str]) -> None:
    """Oracle: the fresh classifiers; the first class that differs is named."""
    old, new = model_of(THREE, 1), model_of(classes, 2)
    save(tmp_path, old, THREE)
    fresh = state_of(new)
    report = initialize(new, str(tmp_path), classes, "runs")
    assert changed(fresh, new) <= fresh.keys() - CLASSIFIERS
    assert_taken(CLASSIFIERS, new, fresh)
    was, now = next(pair for pair in zip(THREE, classes, strict=True) if pair[0] != pair[1])
    assert report.anew == dict.fromkeys(report.anew, f"other classes: '{was}' -> '{now}'")
    assert report.anew.keys() == CLASSIFIERS
    assert f"head.classifier.bias (other classes: '{was}' -> '{now}')" in str(report)


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    """Oracle: the tensors of ema.safetensors."""
    old, average, new = model_of(THREE, 1), model_of(THREE, 3), model_of(THREE, 2)
    save(tmp_path, old, THREE, ema=state_of(average))
    initialize(new, str(tmp_path), THREE, "runs")
    assert_taken(set(state_of(new)), new, state_of(average))


@pytest.mark.parametrize(("has", "wants"), [(True, False), (False, True)])
def test_an_auxiliary_head_may_come_or_go(tmp_path: Path, has: bool, wants: bool) -> None:
    """Oracle: its tensors, not used or made anew, and told; everything else is taken."""
    old, new = model_of(THREE, 1, auxiliary=has), model_of(THREE, 2, auxiliary=wants)
    save(tmp_path, old, THREE)
    fresh = state_of(new)
    report = initialize(new, str(tmp_path), THREE, "runs")
    auxiliary = {name for name in state_of(old) | fresh if name.startswith("auxiliary_head.")}
    assert auxiliary
    assert_taken(fresh.keys() - auxiliary, new, state_of(old))
    assert set(report.unused) == (auxiliary if has else set())
    assert report.anew == ({} if has else dict.fromkeys(report.anew, "not in the source"))
    assert " and 2 more" in str(report)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weight_file(tmp_path: Path, suffix: str) -> None:
    """Oracle: the file's tensors, whatever is called as it is here; its classes are unknown and as many."""
    old, new = model_of(THREE, 1), model_of(["a", "b", "c"], 2)
    path, state = tmp_path / f"old{suffix}", state_of(old) | {"fc.weight": torch.ones(2, 2)}
    del state["head.attention.gamma"]
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    report = initialize(new, str(path), ["a", "b", "c"], "runs")
    assert_taken(state_of(new).keys() - {"head.attention.gamma"}, new, state)
    assert (report.anew, report.unused) == ({"head.attention.gamma": "not in the source"}, ["fc.weight"])


def test_a_shape_that_differs_is_told(tmp_path: Path) -> None:
    """Oracle: the shapes; a buffer where floats belong is not taken either."""
    new, state = model_of(THREE, 2), state_of(model_of(THREE, 1))
    fresh = state_of(new)
    state["head.reduction.0.weight"] = torch.ones(8, 8, 1, 1)
    state["backbone.stages.0.norm.weight"] = torch.ones(8, dtype=torch.int64)
    save_file(state, tmp_path / "old.safetensors")
    report = initialize(new, str(tmp_path / "old.safetensors"), THREE, "runs")
    assert report.anew == {
        "head.reduction.0.weight": "(8, 8, 1, 1) -> (8, 8, 3, 3)",
        "backbone.stages.0.norm.weight": "torch.int64 -> torch.float32",
    }
    assert_taken(set(report.anew), new, fresh)


def test_the_normalisation_comes_along(tmp_path: Path) -> None:
    """Oracle: the mean that the weights were trained with."""
    old, new = model_of(THREE, 1, red=99.0), model_of(THREE, 2)
    save(tmp_path, old, THREE)
    initialize(new, str(tmp_path), THREE, "runs")
    assert new.preprocess.mean.flatten()[0] == 99.0


@pytest.mark.parametrize(("kept", "is_enough"), [(12, True), (11, False), (0, False)])
def test_half_of_the_backbone_has_to_fit(tmp_path: Path, kept: int, is_enough: bool) -> None:
    """Oracle: 24 tensors are the backbone's: with 12 of them it goes on, with fewer nothing is loaded at all."""
    old, new = model_of(THREE, 1), model_of(THREE, 2)
    fresh, state = state_of(new), state_of(old)
    backbone = [name for name in state if name.startswith("backbone.")]
    assert len(backbone) == 24
    save_file({name: value for name, value in state.items() if name not in backbone[kept:]}, tmp_path / "w.safetensors")
    if is_enough:
        assert initialize(new, str(tmp_path / "w.safetensors"), THREE, "runs").taken == len(state) - 12
        return
    with pytest.raises(
        CheckpointError, match=rf"w.safetensors: only {kept} of the backbone's 24 tensors fit; .*weights"
    ):
        initialize(new, str(tmp_path / "w.safetensors"), THREE, "runs")
    assert not changed(fresh, new)


def test_a_wrong_checkpoint_is_no_silent_random_start(tmp_path: Path) -> None:
    """Oracle: the documented error: a backbone of another width, and a checkpoint that does not know its classes."""
    new = model_of(THREE, 2)
    save(tmp_path / "wide", model_of(THREE, 1, channels=16), THREE)
    with pytest.raises(CheckpointError, match="only 4 of the backbone's 24 tensors fit"):
        initialize(new, str(tmp_path / "wide"), THREE, "runs")
    for number, names in enumerate((None, "abc", [1, 2, 3])):
        save(tmp_path / str(number), model_of(THREE, 1), names)
        with pytest.raises(CheckpointError, match="does not say which classes"):
            initialize(new, str(tmp_path / str(number)), THREE, "runs")


def test_sources_that_are_none(tmp_path: Path) -> None:
    """Oracle: the documented error, which names the source."""
    for source in ("nowhere", "nowhere.pth", "nowhere.safetensors"):
        with pytest.raises(CheckpointError, match=f"{source}: no such"):
            initialize(model_of(THREE, 2), str(tmp_path / source), THREE, "runs")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text.safetensors cannot be read"):
        initialize(model_of(THREE, 2), str(tmp_path / "text.safetensors"), THREE, "runs")


def test_numbers_gone_bad_are_refused(tmp_path: Path) -> None:
    """Oracle: the tensor is named and the model is what it was."""
    new, state = model_of(THREE, 2), state_of(model_of(THREE, 1))
    fresh = state_of(new)
    state["head.attention.gamma"] = torch.tensor([float("nan")]).reshape(state["head.attention.gamma"].shape)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=r"head.attention.gamma holds numbers that are not finite"):
        initialize(new, str(tmp_path / "bad.safetensors"), THREE, "runs")
    assert not changed(fresh, new)
