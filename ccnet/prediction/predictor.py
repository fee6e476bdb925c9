"""A trained model as an object that turns images into masks: what `ccnet.load` returns."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ccnet import build, run
from ccnet.command_line import MODEL_KEYS, require_effect
from ccnet.data.rgb import as_rgb
from ccnet.data.sample import read_image
from ccnet.errors import ConfigError, DataError
from ccnet.evaluation.inference import Inference
from ccnet.loaded_model import LoadedModel, load_model
from ccnet.prediction.asking import Asking
from ccnet.prediction.results import blend
from ccnet.visualize import Mask, Rgb

PictureLike = str | PathLike[str] | Image.Image | NDArray[np.uint8]
T = TypeVar("T")


class Predictor:
    """A model that is asked about images of any size.

    An image is the path of a file, a Pillow image, or an array, uint8 RGB (H, W, 3) or grey (H, W). Files and Pillow
    images are turned upright as their EXIF orientation says, and masks are those of the upright image. Several threads
    may ask. Images that do not fit into memory are asked about in tiles; a warning says so.

    Args:
        loaded: the model and what its checkpoint says about it.
        inference: how it is asked.
        device: of the model.
    """

    def __init__(self, loaded: LoadedModel, inference: Inference, device: torch.device) -> None:
        self.loaded, self.device = loaded, device
        self.ask = Asking(loaded.model, inference, device)

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:6]) + (", ..." if len(self.class_names) > 6 else "")
        return f"<Predictor of {self.loaded.path} on {self.device}: {len(self.class_names)} classes ({names})>"

    @property
    def class_names(self) -> list[str]:
        """By class index."""
        return list(self.loaded.class_names)

    @property
    def palette(self) -> list[tuple[int, int, int]]:
        """RGB by class index."""
        return list(self.loaded.palette)

    @property
    def batch_size(self) -> int:
        """Images of one size that are asked about together."""
        return self.ask.inference.batch_size

    @overload
    def predict(self, image: PictureLike) -> Mask: ...  # type: ignore[overload-overlap]  # a str is a sequence, too

    @overload
    def predict(self, image: Sequence[PictureLike]) -> list[Mask]: ...

    def predict(self, image: PictureLike | Sequence[PictureLike]) -> Mask | list[Mask]:
        """Class indices, uint8 (H, W); of a list of images a list.

        Raises:
            DataError: a file that cannot be read, or no image at all.
            OutOfMemoryError: an image that does not fit into memory, not even in tiles.
            UserError: the model answers NaN.
        """
        if not isinstance(image, list | tuple):
            return next(self.ask([to_rgb(image)])).mask  # type: ignore[arg-type]
        sizes = batched(map(to_rgb, image), lambda rgb: rgb.shape, self.batch_size)
        return [found.mask for images in sizes for found in self.ask(images)]

    def predict_probabilities(self, image: PictureLike) -> NDArray[np.float32]:
        """Probability of each class, float32 (C, H, W); its maximum over the classes is the confidence.

        Raises:
            DataError, OutOfMemoryError, UserError: as `predict`.
        """
        found = next(self.ask([to_rgb(image)], probabilities=np.float32)).probabilities
        assert found is not None
        return found.astype(np.float32, copy=False)

    def overlay(self, image: PictureLike, mask: Mask, opacity: float = 0.6) -> Image.Image:
        """The mask's colours over the image, which a notebook shows; 255 in the mask leaves the image as it is.

        Raises:
            DataError: an image that cannot be read, or a mask of another size or type.
        """
        rgb = to_rgb(image)
        if mask.shape != rgb.shape[:2] or mask.dtype != np.uint8:
            raise DataError(
                f"a mask of {mask.dtype} {mask.shape} does not fit an image of {rgb.shape[:2]}; it must be uint8 (H, W)"
            )
        return Image.fromarray(blend(rgb, mask, self.palette, opacity))


def load(
    checkpoint: str | PathLike[str] | None,
    device: str,
    overrides: Sequence[str],
    allow_targets: Collection[str],
) -> Predictor:
    """As `ccnet.load`."""
    require_effect(overrides, MODEL_KEYS)
    own = available_device(device)
    path = run.find_checkpoint(None if checkpoint is None else str(checkpoint))
    loaded = load_model(path, own, overrides, allowed=allow_targets)
    return Predictor(loaded, build.build_inference(loaded.config), own)


def available_device(name: str) -> torch.device:
    """A device by its name: auto takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: no such device, or one that this machine has not.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind, colon, index = name.partition(":")
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    if kind not in there or (colon and not index.isdecimal()):
        raise ConfigError(f"device {name} is unknown; there are auto, {', '.join(there)}")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not there[kind] or int(index or 0) >= count:
        raise ConfigError(f"device {name} is not there; use auto or cpu")
    return torch.device(name)


def to_rgb(image: PictureLike) -> Rgb:
    """What a caller calls an image -> uint8 (H, W, 3).

    Raises:
        DataError: it is none.
    """
    if isinstance(image, str | PathLike):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return _upright(image)
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image must be a path, a Pillow image or an array, not {type(image).__name__}")
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise DataError(
            f"an image array must be uint8 RGB (H, W, 3) or grey (H, W), 0..255; got {image.dtype} {image.shape}"
        )
    return np.repeat(image[..., None], 3, axis=2) if grey else image


def _upright(image: Image.Image) -> Rgb:
    try:
        return as_rgb(ImageOps.exif_transpose(image), "the image")
    except DataError:
        raise
    except Exception as error:  # Pillow decodes only now, and its readers raise almost anything on damaged files
        raise DataError(f"the image cannot be decoded ({type(error).__name__}: {error})") from error


def batched(items: Iterable[T], kind: Callable[[T], object], most: int) -> Iterator[list[T]]:
    """Items of one kind that follow each other, at most so many together."""
    batch: list[T] = []
    for item in items:
        if batch and (len(batch) == most or kind(item) != kind(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
