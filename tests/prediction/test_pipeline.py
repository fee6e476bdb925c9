"""Folders of images become results, whatever happens to one of them, to the disk, or to the user's patience."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.data.sample import read_image
from ccnet.errors import DataError
from ccnet.prediction import pipeline, reading
from ccnet.prediction.inputs import find_inputs
from ccnet.prediction.pipeline import predict_files
from ccnet.prediction.results import Results
from tests.prediction.conftest import MakePredictor
from tests.prediction.folders import SIZES, files, predict, results, statuses


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 1), (3, 2), (2, 64)])
def test_bytes_do_not_depend_on_threads_or_batches(
    threads: int, batch_size: int, make: MakePredictor, photos: Path, tmp_path: Path
) -> None:
    """Oracle: each image read, asked about and written on its own, without the pipeline; the summary in its order."""
    model = make(batch_size=batch_size)
    plain = results(model, tmp_path / "plain")
    items = find_inputs(str(photos), tmp_path / "out")
    for item in items:
        image = read_image(item.path)
        plain.write(item.name, image, next(model.ask([image])))
    done = predict(model, photos, tmp_path / "out", threads=threads)
    assert done.exit_status() == 0
    assert files(tmp_path / "out") == files(tmp_path / "plain")
    assert len(files(tmp_path / "out")) == 3 * len(SIZES)
    assert list(statuses(tmp_path / "out").items()) == [(item.name, "ok") for item in items]
    asked: Any = model.loaded.model
    assert max(batch for batch, *_ in asked.asked) == min(batch_size, 3)


def test_a_bad_file_is_named_and_the_rest_goes_on(
    make: MakePredictor, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the line on stderr, the reason in the summary, the exit status, the files of the others."""
    (photos / "1.png").write_text("no picture")
    (photos / "2.png").write_bytes((photos / "3.png").read_bytes()[:-30])
    done = predict(make(batch_size=4), photos, tmp_path / "out")
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 2
    assert lines[0].startswith("failed: ")
    assert "1.png is not an image in one of the formats" in lines[0]
    assert "2.png cannot be decoded" in lines[1]
    assert done.exit_status() == 3
    assert statuses(tmp_path / "out") == {f"{'sub/' * (i == 6)}{i}.png": "failed" if i in (1, 2) else "ok"
                                          for i in range(7)}  # fmt: skip
    reason = json.loads((tmp_path / "out/summary.json").read_text())["images"]["1.png"]["reason"]
    assert "is not an image" in reason
    assert len(files(tmp_path / "out")) == 3 * 5


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("The size of tensor a (25)\nmust match"), "RuntimeError: The size of tensor a (25) must match"),
        (ValueError("no such size"), "ValueError: no such size"),
        (None, "the model answers NaN; leave out --amp, or take another checkpoint"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_that_the_model_fails_at_fails_alone(
    batch_size: int,
    error: Exception | None,
    reason: str,
    make: MakePredictor,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also among others of its size. Oracle: the reason of the only white image, and the files of the others."""
    Image.fromarray(np.full((6, 9, 3), 255, np.uint8)).save(photos / "4.png")
    model = make(batch_size=batch_size)
    predict(model, photos, tmp_path / "clean")
    real = model.loaded.model.forward

    def forward(image: torch.Tensor) -> Any:
        outputs: Any = real(image)
        white = (image == 255).flatten(1).all(dim=1)
        if error is not None and white.any():
            raise error
        outputs.logits[white, 0, 0, 0] = torch.nan
        return outputs

    monkeypatch.setattr(model.loaded.model, "forward", forward)
    done = predict(model, photos, tmp_path / "out")
    entry = {"status": "failed", "reason": f"{photos / '4.png'}: {reason}", "input": str(photos / "4.png")}
    assert done.images["4.png"] == entry
    assert dict(done.counts()) == {"ok": 6, "failed": 1}
    others = {name: data for name, data in files(tmp_path / "clean").items() if not name.endswith("/4.png.png")}
    assert files(tmp_path / "out") == others


def test_a_broken_device_ends_it_all(
    make: MakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: PyTorch's own error, which every later image would meet; what was not asked about waits."""
    model = make()
    real = model.loaded.model.forward

    def forward(image: torch.Tensor) -> Any:
        if image.shape[-1] == 5:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return real(image)

    monkeypatch.setattr(model.loaded.model, "forward", forward)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        predict(model, photos, tmp_path / "out")
    assert list(statuses(tmp_path / "out").values())[2:] == ["waiting"] * 5


def test_a_failed_image_keeps_no_earlier_results(make: MakePredictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the files of the first call without those of the image that is damaged now, of whatever kind."""
    items = find_inputs(str(photos), tmp_path / "out")
    model = make()
    predict_files(model, items, results(model, tmp_path / "out", confidence=True, probabilities=True))
    before = files(tmp_path / "out")
    (photos / "0.png").write_text("no picture")
    predict(model, photos, tmp_path / "out", resume=True)
    expected = {name: data for name, data in before.items() if not name.endswith(("/0.png.png", "/0.png.npz"))}
    assert len(before) - len(expected) == 5
    assert {name: data for name, data in files(tmp_path / "out").items() if name in expected} == expected
    assert files(tmp_path / "out").keys() == expected.keys()


@pytest.mark.skipif(os.name == "nt", reason="names with control characters")
def test_names_give_terminals_no_orders(
    make: MakePredictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: printable text in one line, which names the file."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/[red]a\x1b[31m\nb\udcff.png").write_text("no picture")
    predict(make(), tmp_path / "in", tmp_path / "out")
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.isprintable()
    assert r"[red]a\x1b[31m b\udcff.png is not an image" in line


def test_no_image_at_all_worked(make: MakePredictor, tmp_path: Path) -> None:
    """Oracle: status 1, and a summary that says so."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.png").write_text("no picture")
    assert predict(make(), tmp_path / "in", tmp_path / "out").exit_status() == 1
    assert statuses(tmp_path / "out") == {"bad.png": "failed"}


def test_an_image_that_no_tile_of_fits_fails_alone(make: MakePredictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the statuses; those of tiles and batches in the summary."""
    Image.fromarray(np.zeros((200, 140, 3), np.uint8)).save(photos / "large.png")
    done = predict(make(most=6 * 9, batch_size=8), photos, tmp_path / "out")
    assert done.exit_status() == 3
    told = json.loads((tmp_path / "out/summary.json").read_text())
    assert [name for name, entry in told["images"].items() if entry["status"] == "failed"] == ["large.png"]
    assert "not even tiles of 128 pixels fit" in told["images"]["large.png"]["reason"]
    assert {"size": [6, 9], "at_a_time": 1, "tile": None} in told["out_of_memory"]
    done = predict(make(most=128 * 128), photos, tmp_path / "tiles")
    told = json.loads((tmp_path / "tiles/summary.json").read_text())
    assert done.exit_status() == 0
    assert told["images"]["large.png"]["tile"] == 128
    assert told["out_of_memory"] == [{"size": [200, 140], "at_a_time": 1, "tile": 128}]


def test_a_name_that_cannot_be_written_fails_alone(make: MakePredictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the statuses: a file is where a folder is needed."""
    (tmp_path / "out/mask").mkdir(parents=True)
    (tmp_path / "out/mask/sub").touch()
    assert predict(make(), photos, tmp_path / "out").exit_status() == 3
    assert statuses(tmp_path / "out")["sub/6.png"] == "failed"


def stop_at(error: BaseException, call: int) -> Any:
    """`Results.write`, which raises from that call on."""
    real, calls = Results.write, []

    def write(self: Results, *given: Any) -> None:
        calls.append(given)
        if len(calls) >= call:
            raise error
        real(self, *given)

    return write


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a bug")])
def test_a_writer_that_dies_ends_it_all_with_a_summary(
    error: Exception, make: MakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a full disk is one line, a bug itself; what was written before counts, nothing is half there, and the
    rest can be done later."""
    with monkeypatch.context() as patch:
        patch.setattr(Results, "write", stop_at(error, 3))
        expected = DataError if isinstance(error, OSError) else RuntimeError
        with pytest.raises(expected, match=r"No space left on device|a bug") as caught:
            predict(make(), photos, tmp_path / "out", threads=1)
    assert "\n" not in str(caught.value)
    found = statuses(tmp_path / "out")
    assert list(found.values()) == ["ok"] * 2 + ["waiting"] * 5
    assert len(files(tmp_path / "out")) == 6
    assert predict(make(), photos, tmp_path / "out", resume=True).exit_status() == 0
    assert list(statuses(tmp_path / "out").values()) == ["skipped"] * 2 + ["ok"] * 5
    predict(make(), photos, tmp_path / "clean")
    assert files(tmp_path / "out") == files(tmp_path / "clean")


def test_control_c_ends_it_with_a_summary(
    make: MakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what was written when the model was interrupted at its fifth image; the threads are gone."""
    model = make()
    real, asked = model.loaded.model.forward, []

    def forward(image: Any) -> Any:
        asked.append(image)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return real(image)

    monkeypatch.setattr(model.loaded.model, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        predict(model, photos, tmp_path / "out")
    found = statuses(tmp_path / "out")
    done = [name for name, status in found.items() if status == "ok"]
    assert len(files(tmp_path / "out")) == 3 * len(done)
    assert len(done) <= 4
    assert set(found.values()) <= {"ok", "waiting"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_write_protected_is_one_line(make: MakePredictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the message, before the model is asked."""
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(DataError, match="out cannot be written to"):
        predict(make(), photos, tmp_path / "out")


def test_a_file_in_the_place_of_the_output_is_one_line(make: MakePredictor, photos: Path, tmp_path: Path) -> None:
    """Oracle: the message, before the model is asked."""
    (tmp_path / "out").touch()
    model = make()
    with pytest.raises(DataError, match=r"out cannot be written to .*choose another --output"):
        predict(model, photos, tmp_path / "out")
    asked: Any = model.loaded.model
    assert asked.asked == []


@pytest.mark.parametrize(("probabilities", "most"), [(False, 6), (True, 2)])
def test_few_probabilities_wait(
    probabilities: bool, most: int, make: MakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of an image are as large as a hundred masks. Oracle: the count of what is handed over and not settled."""
    waiting, real = [], pipeline._Writers.submit

    def submit(writers: Any, *given: Any) -> None:
        real(writers, *given)
        waiting.append(len(writers.waiting))

    monkeypatch.setattr(pipeline._Writers, "submit", submit)
    model = make()
    items = find_inputs(str(photos), tmp_path / "out")
    predict_files(model, items, results(model, tmp_path / "out", probabilities=probabilities), threads=3)
    assert max(waiting) == most


def test_the_threads_hold_few_images(
    make: MakePredictor, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the count of images that are decoded and not yet written, at each decoding; writers are slow."""
    opened, written, alive = [], [], []
    real_read, real_write = reading.read_image, Results.write

    def read(path: Path) -> Any:
        opened.append(path)
        alive.append(len(opened) - len(written))
        return real_read(path)

    def write(self: Results, *given: Any) -> None:
        real_write(self, *given)
        written.append(given)

    for index in range(7, 40):
        Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(photos / f"{index}.png")
    monkeypatch.setattr(reading, "read_image", read)
    monkeypatch.setattr(Results, "write", write)
    predict(make(batch_size=2), photos, tmp_path / "out", threads=2)
    assert 2 <= max(alive) <= (2 + 2 + 1) + 2 + 2 * 2 + 1
