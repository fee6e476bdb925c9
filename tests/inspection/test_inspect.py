"""Figures of a data set, and its mistakes over all splits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.config import compose_config
from ccnet.data.augmentation import Unchanged
from ccnet.data.doctor.findings import Kind, Severity
from ccnet.inspection import inspect as inspect_module
from ccnet.inspection.inspect import RULES, inspect
from ccnet.inspection.output import write_output
from ccnet.inspection.tables import normalisation, print_inspection
from ccnet.losses.class_weights import weights_from_pixels
from ccnet.schema import RunConfig
from tests.conftest import write_folder


def configuration(root: Path, classes: str = "[dark,bright]", palette: str = "[[9,9,9],[200,0,0]]") -> RunConfig:
    words = [f"dataset.root={root}", f"dataset.class_names={classes}", f"dataset.palette={palette}"]
    return compose_config(["dataset=folder", *words])


def images_of(root: Path, kind: str = "images") -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted((root / kind / "train").glob("*.png"))])


@pytest.mark.parametrize("workers", [0, 1])
def test_figures_are_those_of_the_pixels(workers: int, tmp_path: Path) -> None:
    """Oracle: NumPy on all pixels at once."""
    root = write_folder(tmp_path)
    done = inspect(configuration(root), ["train", "val"], full=True, workers=workers)
    figures, pixels = done.statistics["train"], images_of(root).reshape(-1, 3).astype(np.float64)
    counts = np.bincount(images_of(root, "masks").ravel(), minlength=256)
    assert figures.class_pixels == counts[:2].tolist()
    assert figures.ignored_pixels == counts[255]
    assert figures.class_images == [3, 3]
    assert figures.sizes == [((56, 40), 3)]
    np.testing.assert_allclose(figures.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(figures.std, pixels.std(axis=0), rtol=1e-9)
    assert done.class_weights("train") == {rule: weights_from_pixels(rule, figures.class_pixels) for rule in RULES}
    assert [finding.kind for finding in done.findings] == [Kind.SHARED_NAMES]  # its splits count from 0
    assert not done.has_errors


def test_colours_can_be_pasted(tmp_path: Path) -> None:
    """Oracle: the composed configuration that the printed lines give as overrides."""
    done = inspect(configuration(write_folder(tmp_path)), ["train"], full=True, workers=0)
    head, mean, std = normalisation(done.statistics["train"]).splitlines()
    assert head == "model:"
    words = [f"model.{line.strip().replace(': ', '=').replace(' ', '')}" for line in (mean, std)]
    model = compose_config(words).model
    np.testing.assert_allclose(model.mean, done.statistics["train"].mean, atol=0.005)
    np.testing.assert_allclose(model.std, done.statistics["train"].std, atol=0.005)


def test_a_sample_is_seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the seed of the run; another one chooses others."""
    monkeypatch.setattr(inspect_module, "SAMPLE", 5)
    config = configuration(write_folder(tmp_path, count=30))
    first, again = (inspect(config, ["train"], full=False, workers=0).looked_at["train"] for _ in range(2))
    other = inspect(replace(config, seed=1), ["train"], full=False, workers=0).looked_at["train"]
    assert len(set(first)) == 5
    assert first == again != other
    assert inspect(config, ["train"], full=True, workers=0).looked_at["train"] == list(range(30))


def test_a_rare_class_among_many_images_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: right data, of which the one image with the second class is not among the five looked at; and the few
    validation images, which do not have it."""
    monkeypatch.setattr(inspect_module, "SAMPLE", 5)
    root = write_folder(tmp_path, count=30)
    config = configuration(root)
    looked_at = inspect(config, ["train"], full=False, workers=0).looked_at["train"]
    spared = root / "masks" / "train" / f"{sorted(map(str, set(range(30)) - set(looked_at)))[0]}.png"
    for path in (root / "masks").glob("*/*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where((mask == 1) & (path != spared), 0, mask).astype(np.uint8)).save(path)
    found = inspect(config, ["train", "val"], full=False, workers=0).findings
    assert {(finding.kind, finding.split) for finding in found if finding.kind is Kind.BINARY} == {(Kind.BINARY, "val")}
    assert not [finding for finding in found if finding.severity is Severity.ERROR]


def test_a_split_that_cannot_be_opened_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: a mask without image in train, sizes that differ in val, a class that train lacks."""
    root = write_folder(tmp_path)
    (root / "images" / "train" / "1.png").unlink()
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(root / "masks" / "val" / "2.png")
    config = configuration(root, '[dark,bright,"[red]x"]', "[[9,9,9],[200,0,0],[0,9,0]]")
    done = inspect(config, ["train", "val"], full=False, workers=0)
    assert {finding.kind for finding in done.findings} == {Kind.FILES, Kind.SIZE}
    [unopened] = [finding for finding in done.findings if finding.kind is Kind.FILES]
    assert unopened.message().endswith("1.png has no image")  # the error as it is, with its own remedy where it has one
    (root / "masks" / "train" / "1.png").unlink()
    done = inspect(config, ["train", "val"], full=False, workers=0)
    kinds = [finding.kind for finding in done.findings]
    assert kinds[0] is Kind.SIZE  # errors stand first
    assert set(kinds) == {Kind.SIZE, Kind.ABSENT_CLASS, Kind.SHARED_NAMES}
    print_inspection(done, "train")
    printed = capsys.readouterr().out
    assert printed.count("[red]x") == 3  # in two tables and a finding
    assert "1 errors, 2 warnings" in printed
    write_output(tmp_path, done, config, Unchanged())
    stored = json.loads((tmp_path / "statistics.json").read_text())
    assert stored["findings"][0]["kind"] == "size"
    assert stored["findings"][0]["remedy"].startswith("export both")
    assert stored["splits"]["val"]["statistics"]["images"] == 2
