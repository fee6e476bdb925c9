"""Predictions as the Cityscapes test server takes them: PNGs of labelIds."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ccnet.evaluation.answers import labels
from ccnet.evaluation.evaluator import Asks, evaluation_mode
from ccnet.evaluation.output_folder import writing_into
from ccnet.visualize import save_png

IMAGE_SUFFIX = "_leftImg8bit"


def write_submission(
    batches: Iterable[Mapping[str, Any]],
    inference: Asks,
    model: nn.Module,
    device: torch.device,
    table: NDArray[np.uint8],
    folder: Path,
) -> int:
    """Writes an 8-bit grey PNG of labelIds per image, called as the image is: berlin_000000_000019_leftImg8bit.png.

    Args:
        batches: this rank's share, which needs no labels: image, uint8 (B, 3, H, W), and B names.
        inference: asks the model.
        model: on its device.
        device: the model's.
        table: uint8 (C,), the labelId of each class.
        folder: made where missing; a file that is there is replaced, and whole at any time.

    Returns:
        How many this rank has written.

    Raises:
        UserError: a file cannot be written, or the folder is a link.
    """
    written = 0
    with evaluation_mode(model):
        for batch in batches:
            found = labels(inference.answer(model, batch["image"].to(device))).cpu().numpy()
            with writing_into(folder):
                for name, prediction in zip(batch["name"], found, strict=True):
                    save_png(folder / f"{PurePosixPath(name).name}{IMAGE_SUFFIX}.png", table[prediction])
            written += len(found)
    return written
