"""What is written of a prediction: pictures and numbers in folders of their own, each file whole or not at all."""

import difflib
import errno
import io
import os
import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ccnet.errors import ConfigError, DataError
from ccnet.prediction.asking import Prediction
from ccnet.visualize import Mask, Palette, Rgb, colorize, index_png, overlay

KINDS = {"mask": ".png", "color": ".png", "overlay": ".png", "confidence": ".png", "probabilities": ".npz"}
NOT_SHOWN = 255
T = TypeVar("T")
FAULTS_OF_A_NAME = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL}


def class_indices(wanted: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """The indices of named classes.

    Raises:
        ConfigError: an unknown name, with the nearest one.
    """
    for name in wanted:
        if name not in class_names:
            close = difflib.get_close_matches(name, class_names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(class_names)}"
            raise ConfigError(f"--classes: the model knows no class '{name}'; {hint}")
    return [class_names.index(name) for name in wanted]


class Results:
    """The output folder: mask/NAME.png, color/NAME.png, overlay/NAME.png and what else is asked for.

    Args:
        output: made where it is missing; may be a link, which what lies in it may not.
        class_names: of the model.
        palette: a colour per class.
        opacity: of the colours in the overlay, 0..1.
        classes: indices of the classes that are shown; the pixels of others are 255 in the mask, black in color/, and
            as they are in overlay/. All where None.
        confidence: also writes confidence/NAME.png, the highest probability of each pixel, 8-bit grey.
        probabilities: also writes probabilities/NAME.npz: `probabilities`, float16 (C, H, W), and `class_names`.
    """

    def __init__(
        self,
        output: Path,
        class_names: Sequence[str],
        palette: Palette,
        *,
        opacity: float = 0.6,
        classes: Collection[int] | None = None,
        confidence: bool = False,
        probabilities: bool = False,
    ) -> None:
        self.output, self.class_names, self.palette = output, list(class_names), palette
        self.opacity, self.classes = opacity, classes
        self.confidence, self.probabilities = confidence, probabilities
        extra = {"confidence": confidence, "probabilities": probabilities}
        self.kinds = [kind for kind in KINDS if extra.get(kind, True)]

    def settings(self) -> dict[str, object]:
        """What the files depend on, beside the prediction."""
        shown = None if self.classes is None else [self.class_names[index] for index in sorted(self.classes)]
        classes = {"class_names": self.class_names, "palette": [list(color) for color in self.palette]}
        return {"kinds": self.kinds, "opacity": self.opacity, "classes": shown, **classes}

    def complete(self, name: str) -> bool:
        """Whether all files of an image are there."""
        return all(self._path(kind, name).is_file() for kind in self.kinds)

    def write(self, name: str, image: Rgb, prediction: Prediction) -> None:
        """Writes all files of an image.

        Raises:
            DataError: no file can have this name, or it would lie outside the output folder.
            OSError: nothing can be written: a full disk, a folder that is write-protected.
        """
        mask = prediction.mask if self.classes is None else only(self.classes, prediction.mask)
        for kind in self.kinds:
            self._put(self._path(kind, name), self._encoded(kind, image, mask, prediction))

    def remove(self, name: str) -> None:
        """Removes what earlier calls wrote of an image, of whatever kind."""
        for kind in KINDS:
            path = self._path(kind, name)
            with suppress(OSError):  # a name that no file can have; a folder in whose way something is
                if self._is_inside(path):
                    path.unlink(missing_ok=True)

    def _encoded(self, kind: str, image: Rgb, mask: Mask, prediction: Prediction) -> bytes | memoryview:
        if kind == "probabilities":
            return encode_npz(_asked_for(prediction.probabilities), self.class_names)
        if kind == "confidence":
            return encode_png(Image.fromarray(_asked_for(prediction.confidence)))
        if kind == "mask":
            return encode_png(index_png(mask, self.palette))
        colors = colorize(mask, self.palette) if kind == "color" else blend(image, mask, self.palette, self.opacity)
        return encode_png(Image.fromarray(colors))

    def _path(self, kind: str, name: str) -> Path:
        return self.output / kind / f"{name}{KINDS[kind]}"

    def _is_inside(self, path: Path) -> bool:
        # realpath, for a loop of links makes Path.resolve raise
        return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(self.output))

    def _put(self, path: Path, data: bytes | memoryview) -> None:
        if not self._is_inside(path):
            raise DataError(
                f"{path.parent} leads out of {self.output} by a link; remove it, or choose another --output"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            if error.errno in FAULTS_OF_A_NAME:
                raise DataError(f"{path} cannot be written ({error.strerror})") from error
            raise


def _asked_for(part: T | None) -> T:
    assert part is not None, "the prediction was made without what is to be written"
    return part


def only(classes: Collection[int], mask: Mask) -> Mask:
    """The mask with 255 in place of all other classes."""
    table = np.full(256, NOT_SHOWN, np.uint8)
    table[list(classes)] = list(classes)
    return table[mask]


def blend(image: Rgb, mask: Mask, palette: Palette, opacity: float) -> Rgb:
    """The colours of the mask over the image, which shows as it is where the mask is 255."""
    blended = overlay(image, mask, palette, opacity)
    return np.where((mask == NOT_SHOWN)[..., None], image, blended) if (mask == NOT_SHOWN).any() else blended


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Writes a file aside and renames it: it is there whole or as it was. Not flushed: a power cut may lose the last
    files, as it loses the last entries of the summary."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.unlink(missing_ok=True)  # a link there would be followed
        with aside.open("xb") as file:
            file.write(data)
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def encode_png(picture: Image.Image) -> bytes:
    """A PNG. Run-length matching takes a fifth of the time of Pillow's default for photographs, and 2 % more bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_npz(probabilities: NDArray[np.floating], class_names: Sequence[str]) -> memoryview:
    """Arrays of numbers and text, without pickle: `probabilities` (C, H, W) and `class_names` (C,).

    Not compressed: that takes two seconds of a core for 19 classes of 1024x2048, and saves a tenth.
    """
    buffer = io.BytesIO()
    np.savez(buffer, probabilities=probabilities, class_names=np.array(class_names))
    return buffer.getbuffer()
