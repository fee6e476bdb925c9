"""Anyone's data: images/ and masks/ with equal names."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Literal

from ccnet.data.label_map import LabelMap, table_of
from ccnet.data.mask_colors import ColorMasks
from ccnet.data.pairing import paired, require_folder
from ccnet.data.palette import as_color
from ccnet.data.sample import Color, FilePair, SegmentationDataset, StoredLabels, read_stored
from ccnet.errors import ConfigError, DataError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, but for hidden ones and those that macOS lays beside them (._a.jpg)."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(folder).parts)
    ]


def image_files(folder: Path) -> dict[str, Path]:
    """Visible image files below a folder by their relative path without extension.

    Raises:
        DataError: two files that differ in their extension only.
    """
    found: dict[str, Path] = {}
    for path in visible_files(folder):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{found[name]} and {path} would have the same name; rename one of them")
        found[name] = path
    return found


class Folder(SegmentationDataset):
    """images/ and masks/, paired by name; a split is a list of names where there is one, else a sub-folder of both.

    A list is root/splits/SPLIT.txt or root/SPLIT.txt. A line names an image below images/, with or without extension
    (`train/garden_03`), or an image and its mask below root (`images/garden_03.jpg masks/garden_03.png`).

    Args:
        root: the folder that holds images/ and masks/.
        split: name of the list or sub-folder.
        class_names: one per class index.
        palette: one RGB colour per class.
        mask_format: `index` for a number per pixel (8 or 16 bit, or palette PNG), 255 = ignored; `color` for the exact
            RGB colours of `mask_colors`.
        mask_colors: of the stored labels 0, 1, 2, ...; None for the palette's.
        ignore_color: of ignored pixels, in colour masks.
        label_map: stored label -> class index or 255; see `label_map.table_of`.

    Raises:
        DataError: missing files or partners.
        ConfigError: colours or labels that contradict each other.
    """

    def __init__(
        self,
        root: str,
        split: str,
        class_names: Sequence[str],
        palette: Sequence[Color],
        mask_format: Literal["index", "color"] = "index",
        mask_colors: Sequence[Color] | None = None,
        ignore_color: Color | None = None,
        label_map: LabelMap | None = None,
    ) -> None:
        read_labels: Callable[[Path], StoredLabels] = read_stored
        if mask_format == "color":
            key, colors = ("palette", palette) if mask_colors is None else ("mask_colors", mask_colors)
            read_labels = ColorMasks(
                tuple(as_color(color, f"dataset.{key}") for color in colors),
                None if ignore_color is None else as_color(ignore_color, "dataset.ignore_color"),
            )
        elif mask_colors is not None or ignore_color is not None:
            raise ConfigError("dataset.mask_colors and dataset.ignore_color need dataset.mask_format=color")
        super().__init__(
            folder_pairs(Path(root), split),
            class_names,
            palette,
            None if label_map is None else table_of(label_map, len(class_names)),
            read_labels,
        )


def folder_pairs(root: Path, split: str) -> list[FilePair]:
    """The files of a split, sorted by name.

    Raises:
        DataError: no such split, a missing partner, or a list that names what is not there.
    """
    if (path := split_list(root, split)) is not None:
        return _listed_pairs(root, path)
    images = require_folder(root / "images" / split, "the image folder")
    masks = require_folder(root / "masks" / split, "the mask folder")
    return paired(image_files(images), image_files(masks), where=images)


def split_list(root: Path, split: str) -> Path | None:
    """The list of a split's names, where there is one."""
    return next((path for path in (root / "splits" / f"{split}.txt", root / f"{split}.txt") if path.is_file()), None)


def confined(root: Path, name: str, start: Path | None = None) -> Path:
    """A path below a folder, as a file says that came with the data and is not trusted; both kinds of slashes separate.

    Args:
        root: the folder.
        name: the path.
        start: the folder, root or below, that the path is relative to; None for root.

    Raises:
        DataError: it would lead out of the root.
    """
    parts = [] if start is None else list(start.relative_to(root).parts)
    for part in PureWindowsPath(name).parts:
        if PureWindowsPath(part).anchor or (part == ".." and not parts):  # a drive in the middle leads out, too
            raise DataError(f"{name} leads out of {root}; paths must stay inside")
        parts = parts[:-1] if part == ".." else [*parts, part]
    return root.joinpath(*parts)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without the white space around them.

    Raises:
        DataError: it is no text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); save it as UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _listed_pairs(root: Path, path: Path) -> list[FilePair]:
    images, masks = image_files(root / "images"), image_files(root / "masks")
    pairs = [_listed_pair(root, line, images, masks) for line in read_lines(path)]
    missing = [file for pair in pairs for file in (pair.image, pair.mask) if file is not None and not file.is_file()]
    if missing:
        listed = ", ".join(str(file) for file in missing[:5])
        raise DataError(f"{path} names {len(missing)} files that do not exist: {listed}")
    by_name = {pair.name: pair for pair in pairs}
    if len(by_name) < len(pairs):
        [(twice, _)] = Counter(pair.name for pair in pairs).most_common(1)
        raise DataError(f"{path} names {twice} twice; take one out")
    if not pairs:
        raise DataError(f"{path} holds no names of images")
    return [by_name[name] for name in sorted(by_name)]


def _listed_pair(root: Path, line: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> FilePair:
    words = line.split("\t") if "\t" in line else line.split()
    if (name := _stem(line)) in images or len(words) != 2:
        image = images.get(name, root / "images" / name)
        return FilePair(name, image, masks.get(name, root / "masks" / f"{name}.png"))
    return FilePair(_stem(words[0]), confined(root, words[0]), confined(root, words[1]))


def _stem(name: str) -> str:
    path = PureWindowsPath(name)
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()
