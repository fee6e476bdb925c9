"""Folders of images to masks, colours and overlays: tools/predict.py against a loop that reads, asks and writes."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ccnet import build, run
from ccnet.allocator import keep_freed_memory
from ccnet.benchmarks import measure
from ccnet.benchmarks.measure import Row, Step, compare, interleaved, summary
from ccnet.benchmarks.textbook_prediction import DEFAULT_PNG, OUR_PNG, predict_one_by_one
from ccnet.checkpoint import save
from ccnet.config import compose_config
from ccnet.data.cityscapes import CLASSES
from ccnet.data.streets import draw_scene
from ccnet.prediction.inputs import find_inputs
from ccnet.prediction.pipeline import predict_files
from ccnet.prediction.predictor import Predictor, load
from ccnet.prediction.results import Results

NAME = "prediction"
OURS, LOOP, USUAL = "predict", "loop", "loop, Pillow's PNG"
PALETTE = [color for _, color in CLASSES.values()]
CASES = (("JPEG", (512, 1024), 24), ("PNG", (1024, 2048), 8))  # and how many images


def rows(quick: bool) -> Iterator[Row]:
    """Prediction of a folder: decoding, the model and writing at once, against one after the other; the default run."""
    keep_freed_memory(torch.device("cpu"))  # as the tool does
    with tempfile.TemporaryDirectory() as folder:
        model = untrained(Path(folder))
        steps: list[Step] = []
        for kind, size, count in CASES:
            case = f"{count // 4 if quick else count} {kind} images of {size[0]}x{size[1]}"
            images = functools.partial(draw, Path(folder) / kind, kind, size, count // 4 if quick else count)
            steps.append((case, functools.partial(timed, case, model, images, 0.0 if quick else 120.0)))
        yield from measure.run(steps)


def untrained(folder: Path) -> Predictor:
    """The default run's model before its first step, on the CPU."""
    torch.manual_seed(0)
    config = compose_config()
    made = build.build_model(config, len(CLASSES), pretrained=False)
    meta = {**run.about(config, list(CLASSES), PALETTE), "step": 0, "score": None}
    path = save(folder / "checkpoints", made, torch.optim.SGD(made.parameters(), 1.0), meta)
    return load(path, "cpu", (), ())


def draw(folder: Path, kind: str, size: tuple[int, int], count: int) -> list[Path]:
    """Street scenes, whose noise makes them as large and as slow to decode as photographs."""
    folder.mkdir()
    paths = [folder / f"{index:03d}.{kind.lower()}" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(draw_scene(np.random.default_rng(index), *size)[0]).save(path, quality=92)
    return paths


def timed(case: str, model: Predictor, images: Callable[[], list[Path]], seconds: float) -> Iterator[Row]:
    """An image's share of the folder's time, by the clock on the wall and of the processor."""
    paths = images()
    folder = paths[0].parent
    loop = functools.partial(predict_one_by_one, model.loaded.model, model.ask.inference, paths, palette=model.palette)
    variants: dict[str, Callable[[], object]] = {
        OURS: functools.partial(ours, model, folder, folder.with_name("ours")),
        LOOP: functools.partial(loop, output=folder.with_name("loop"), settings=OUR_PNG),
        USUAL: functools.partial(loop, output=folder.with_name("usual"), settings=DEFAULT_PNG),
    }
    samples = interleaved(variants, seconds)
    # The goal is the wall; threads at once take no less of the processor.
    for metric, roles in (("wall", {USUAL: "usual"}), ("time", {USUAL: "usual", OURS: "cost"})):
        times = {name: getattr(each, metric) for name, each in samples.items()}
        found = {name: summary([second / len(paths) for second in each]) for name, each in times.items()}
        yield from compare(NAME, case, metric, found, LOOP, roles)


def ours(model: Predictor, folder: Path, output: Path) -> None:
    """What tools/predict.py does once the model is there."""
    results = Results(output, model.class_names, model.palette)
    done = predict_files(model, find_inputs(str(folder), output), results)
    assert done.exit_status() == 0
