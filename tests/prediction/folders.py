"""A folder of images, predicted, and what is there afterwards."""

import json
from pathlib import Path
from typing import Any

from ccnet.prediction.inputs import find_inputs
from ccnet.prediction.pipeline import predict_files
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.results import Results
from ccnet.prediction.summary import Summary

SIZES = ((6, 9), (6, 9), (4, 5), (6, 9), (6, 9), (6, 9), (3, 3))


def results(model: Predictor, output: Path, **options: Any) -> Results:
    return Results(output, model.class_names, model.palette, **options)


def predict(model: Predictor, photos: Path, output: Path, *, resume: bool = False, threads: int = 2) -> Summary:
    found = find_inputs(str(photos), output)
    return predict_files(model, found, results(model, output), resume=resume, threads=threads)


def files(output: Path) -> dict[str, bytes]:
    """All bytes below a folder, but for the summary, which tells the time."""
    found = {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name != "summary.json"}


def statuses(output: Path) -> dict[str, str]:
    images = json.loads((output / "summary.json").read_text())["images"]
    return {name: entry["status"] for name, entry in images.items()}
