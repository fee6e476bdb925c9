"""Names and colours of an imported network's classes."""

from dataclasses import dataclass
from pathlib import Path

from ccnet.data.cityscapes import CLASSES as CITYSCAPES
from ccnet.data.voc import CLASS_NAMES as VOC
from ccnet.data.voc import voc_color
from ccnet.errors import ConfigError, DataError
from ccnet.importers.foreign import Told
from ccnet.preparation.class_file import read_class_file
from ccnet.schema import Part

Palette = list[tuple[int, int, int]]
MOST_CHARACTERS = 100
KNOWN = {"cityscapes": list(CITYSCAPES), "voc": VOC}


@dataclass(frozen=True)
class Classes:
    """Names and colours; `origin` says where they are from."""

    names: list[str]
    palette: Palette
    origin: str

    @property
    def known(self) -> str | None:
        """The group file of the data set that has these names, if one is known."""
        return next((name for name, names in KNOWN.items() if self.names == names), None)

    @property
    def folder(self) -> Part:
        """The part of the configuration of a folder of one's own with these classes."""
        own = {"class_names": self.names, "palette": [list(color) for color in self.palette]}
        return {"_target_": "ccnet.data.folder.Folder", "root": "data/own", **own}


def classes_of(num_classes: int, told: Told, file: Path | None) -> Classes:
    """From a file of the caller's, else what the checkpoint says; else Cityscapes or VOC by the number.

    Numbers stand for names where the checkpoint's own cannot be used, and where nobody tells any.

    Raises:
        ConfigError: a file with another number of classes.
        DataError: a file that cannot be read.
    """
    if file is not None:
        if not file.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{file} cannot be read: no such file")
        read = read_class_file(file)
        if len(read.names) != num_classes:
            raise ConfigError(f"{file} names {len(read.names)} classes, the network has {num_classes}")
        return Classes(read.names, read.colors or _colors(num_classes), str(file))
    if names := _plausible_names(told.names, num_classes):
        palette = _plausible_palette(told.palette, num_classes)
        return Classes(names, palette or _colors(num_classes), "the checkpoint")
    is_told = told.names is not None
    if num_classes == len(CITYSCAPES) and not is_told:
        return Classes(list(CITYSCAPES), [color for _, color in CITYSCAPES.values()], "Cityscapes, by their number")
    if num_classes == len(VOC) and not is_told:
        return Classes(list(VOC), [voc_color(index) for index in range(num_classes)], "VOC, by their number")
    names = [f"class_{index}" for index in range(num_classes)]
    why = "the checkpoint's own cannot be used" if is_told else "nowhere"
    return Classes(names, _colors(num_classes), f"{why}: numbers stand for names; --classes FILE gives them names")


def _colors(num_classes: int) -> Palette:
    return [voc_color(index + 1) for index in range(num_classes)]


def _plausible_names(names: object, num_classes: int) -> list[str] | None:
    if not isinstance(names, list | tuple) or len(names) != num_classes:
        return None
    found = [name for name in names if isinstance(name, str) and 0 < len(name.strip()) <= MOST_CHARACTERS]
    is_text = all(name.isprintable() and "${" not in name for name in found)
    return found if is_text and len({name.strip() for name in found}) == num_classes else None


def _plausible_palette(palette: object, num_classes: int) -> Palette | None:
    if not isinstance(palette, list | tuple) or len(palette) != num_classes:
        return None
    colors = [color for color in palette if isinstance(color, list | tuple) and len(color) == 3]
    if len(colors) < num_classes or not all(type(x) is int and 0 <= x <= 255 for color in colors for x in color):
        return None
    return [(red, green, blue) for red, green, blue in colors]
