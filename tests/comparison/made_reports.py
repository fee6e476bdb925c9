"""Run folders with the report of an evaluation that never was."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ccnet.evaluation.bootstrap import mean_and_iou
from ccnet.evaluation.images_csv import write_images
from ccnet.evaluation.outcome import ImageScores

CLASSES = ["road", "sky"]
FLAGS = {"_target_": "ccnet.evaluation.inference.Inference", "scales": [1.0], "flip": False}


def made_images(share: float, count: int = 12, seed: int = 0) -> list[ImageScores]:
    """Images whose masks are always the same, and of whose pixels about `share` are found."""
    masks, rng = np.random.default_rng(9), np.random.default_rng(seed)
    images = []
    for index, true in enumerate(masks.integers(500, 1000, (count, 2))):
        hits = (true * (share + rng.uniform(-0.04, 0.04, 2))).astype(np.int64)
        predicted = hits + (true - hits)[::-1]  # what is missed of one class is taken for the other
        images.append(ImageScores(f"{index}.png", np.stack([hits, true, predicted]), 0.5, f"{index:064x}"))
    return images


def write_report(
    folder: Path,
    images: Sequence[ImageScores],
    flags: Mapping[str, Any] | None = FLAGS,
    checkpoint: str | None = None,
    class_names: Sequence[str] = CLASSES,
) -> Path:
    """metrics.json and images.csv, as an evaluation writes them."""
    folder.mkdir(parents=True)
    metrics = {"mIoU": float(mean_and_iou(images)[0]), "sha256": checkpoint, "evaluation": flags}
    told = {key: value for key, value in metrics.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(told), encoding="utf-8")
    write_images(folder / "images.csv", images, class_names)
    return folder


def write_run(folder: Path, share: float, seed: int = 0, config: str = "") -> Path:
    """A run folder, its report at the end of training included.

    Args:
        folder: of the run.
        share: of the pixels that are found.
        seed: of the images' scatter.
        config: text of config.yaml; none is written where it is empty.
    """
    write_report(folder / "report", made_images(share, seed=seed))
    if config:
        (folder / "config.yaml").write_text(config, encoding="utf-8")
    return folder
