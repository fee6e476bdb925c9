"""Folders of images -> index masks, colours, overlays."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from ccnet.data.folder import IMAGE_SUFFIXES
from ccnet.data.sample import read_image
from ccnet.errors import DataError
from ccnet.loaded_model import LoadedModel
from ccnet.visualize import Rgb, colorize, index_png, overlay, save_png


def find_images(where: Path, output: Path) -> dict[str, Path]:
    """Images by the path that their results get below the output folder.

    What lies in the output folder is left out: it may be inside the input. The extension stays part of the name
    (a.jpg.png), so that a.jpg and a.png do not overwrite each other's results.

    Raises:
        DataError: no such file or folder, or no image in it.
    """
    if where.is_file():
        return {where.name: where}
    if not where.is_dir():
        raise DataError(f"--input {where}: no such file or folder")
    inside = output.resolve()
    found = (path for path in where.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    files = sorted(path for path in found if not path.resolve().is_relative_to(inside))
    if not files:
        raise DataError(f"--input {where} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return {path.relative_to(where).as_posix(): path for path in files}


def predict_images(
    loaded: LoadedModel,
    inference: Callable[[nn.Module, Tensor], Tensor],
    images: Mapping[str, Path],
    output: Path,
    opacity: float = 0.6,
) -> dict[str, str]:
    """Writes output/{mask,color,overlay}/NAME.png for every image and output/summary.json.

    Args:
        loaded: the model.
        inference: (model, image) -> probabilities.
        images: result name -> file.
        output: made where missing; results of the same name are replaced.
        opacity: of the colours in the overlay.

    Returns:
        The images that could not be read, with the reason; each is also reported on stderr when it is met.
    """
    failures: dict[str, str] = {}
    output.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    for name, path in track(images.items(), "Predicting", console=console, disable=not console.is_terminal):
        try:
            _predict_one(loaded, inference, path, output, f"{name}.png", opacity)
        except DataError as error:
            failures[name] = str(error)
            print(f"skipped: {error}", file=sys.stderr)
    statuses = {name: failures.get(name, "ok") for name in images}
    (output / "summary.json").write_text(
        json.dumps({"checkpoint": str(loaded.path), "images": statuses}, indent=1), encoding="utf-8"
    )
    return failures


def _predict_one(
    loaded: LoadedModel,
    inference: Callable[[nn.Module, Tensor], Tensor],
    path: Path,
    output: Path,
    name: str,
    opacity: float,
) -> None:
    image = read_image(path)
    device = next(loaded.model.parameters()).device
    batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
    mask = inference(loaded.model, batch).argmax(dim=1)[0].to("cpu", torch.uint8).numpy()
    pictures: dict[str, Rgb | Image.Image] = {
        "mask": index_png(mask, loaded.palette),
        "color": colorize(mask, loaded.palette),
        "overlay": overlay(image, mask, loaded.palette, opacity),
    }
    for kind, picture in pictures.items():
        target = output / kind / name
        target.parent.mkdir(parents=True, exist_ok=True)
        save_png(target, picture)
