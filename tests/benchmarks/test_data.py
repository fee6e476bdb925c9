"""The benchmark of the data path: all decode the same, and the rows keep to the tool's rules."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ccnet.benchmarks import data
from ccnet.benchmarks.data import CACHED, FLOORS, OURS, TEXTBOOK, Files, rows
from ccnet.benchmarks.measure import Row
from ccnet.benchmarks.textbook_data import Textbook, decode_cv2, decode_pillow
from ccnet.data.cityscapes import label_table

CASES = {"PNG 64x128 to 48x32", "JPEG 64x128 to 48x32", "after decoding, 64x128 to 48x32"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that take no time."""
    monkeypatch.setattr(data, "SIZE", (64, 128))
    monkeypatch.setattr(data, "CROP", (48, 32))
    monkeypatch.setattr(data, "CALLS", 1)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_all_decode_the_same(suffix: str, tmp_path: Path) -> None:
    """Oracle: our reader; masks are mapped to classes afterwards by ours alone. JPEG decoders round differently."""
    dataset = Files(tmp_path, suffix).write()
    for index, pair in enumerate(dataset.pairs):
        for decode in (decode_cv2, decode_pillow):
            image, mask = decode(pair)
            difference = np.abs(image.astype(int) - dataset[index]["image"])
            assert difference.max() <= (0 if suffix == ".png" else 3)
            assert np.array_equal(label_table()[mask], dataset[index]["mask"])
            assert len(np.unique(mask)) > 3


def test_the_textbook_gives_what_a_model_takes() -> None:
    """Oracle: size and type; colours normalised; labels as before or 255."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    textbook = Textbook((48, 32))
    found = [textbook(image, np.full((40, 60), 7, np.uint8)) for _ in range(20)]
    assert all(each.shape == (3, 48, 32) and each.dtype == torch.float32 and each.abs().max() < 3 for each, _ in found)
    assert all(mask.shape == (48, 32) and set(mask.unique().tolist()) <= {7, 255} for _, mask in found)
    assert len({each.sum().item() for each, _ in found}) == 20


@pytest.fixture(params=[True, False], ids=["quick", "full"])
def found(request: pytest.FixtureRequest, small: None, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """All rows."""
    monkeypatch.setattr(data, "interleaved", briefly(data.interleaved))
    return list(rows(quick=request.param))


def briefly(interleaved: Callable[..., object]) -> Callable[..., object]:
    """The same with as few rounds as there may be."""
    return lambda variants, seconds, **options: interleaved(variants, 0, min_rounds=1, **options)


def test_rows_keep_to_the_rules_and_leave_nothing_out(found: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the rules: one baseline, which is not ours; floors inform. What was asked for: cases and variants."""
    measured = {(row.case, row.variant, row.metric) for row in found}
    assert len(measured) == len(found)
    assert all(row.benchmark == "data" and row.baseline == TEXTBOOK and row.ratio > 0 for row in found)
    wanted = {(case, OURS, "time") for case in CASES}
    for case in CASES - {"after decoding, 64x128 to 48x32"}:
        wanted |= {(case, CACHED, "time")} | {(case, floor, "time (floor)") for floor in FLOORS}
    assert measured == wanted


@pytest.mark.usefixtures("small")
def test_images_per_second_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the inverse of the row's times; OpenCV has its threads again."""
    monkeypatch.setattr(data, "interleaved", briefly(data.interleaved))
    threads = cv2.getNumThreads()
    *_, last = list(rows(quick=True))
    assert cv2.getNumThreads() == threads
    line = capsys.readouterr().out.splitlines()[-1]
    rates = [f"{name} {1 / measured.value:.1f}" for name, measured in
             ((TEXTBOOK, last.baseline_measured), (last.variant, last.measured))]  # fmt: skip
    assert line == f"  images/s per core: {', '.join(rates)}"
