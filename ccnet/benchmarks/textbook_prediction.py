"""What a script for the occasion does with a folder: read, ask, write, one image after the other."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ccnet.data.sample import read_image
from ccnet.evaluation.answers import labels
from ccnet.evaluation.inference import Inference, Model
from ccnet.visualize import Palette, colorize, index_png, overlay

OUR_PNG: dict[str, Any] = {"compress_level": 1, "compress_type": zlib.Z_RLE}
DEFAULT_PNG: dict[str, Any] = {}


def predict_one_by_one(
    model: Model, inference: Inference, paths: Iterable[Path], output: Path, palette: Palette, settings: dict[str, Any]
) -> None:
    """Writes output/{mask,color,overlay}/NAME.png of every image.

    Args:
        model: on the CPU.
        inference: how it is asked.
        paths: of images with different names.
        output: made where it is missing.
        palette: a colour per class.
        settings: of Pillow's PNG writer.
    """
    for path in paths:
        image = read_image(path)
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
        mask = labels(inference.answer(model, batch))[0].numpy()
        pictures = {
            "mask": index_png(mask, palette),
            "color": Image.fromarray(colorize(mask, palette)),
            "overlay": Image.fromarray(overlay(image, mask, palette, 0.6)),
        }
        for kind, picture in pictures.items():
            (output / kind).mkdir(parents=True, exist_ok=True)
            picture.save(output / kind / f"{path.name}.png", "PNG", **settings)
