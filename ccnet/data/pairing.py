"""Image and mask files that belong together."""

from collections.abc import Mapping
from pathlib import Path

from ccnet.data.sample import FilePair
from ccnet.errors import DataError


def require_folder(path: Path, what: str, remedy: str = "set dataset.root to where the data set lies") -> Path:
    """The folder itself.

    Raises:
        DataError: there is none.
    """
    if not path.is_dir():
        raise DataError(f"{what} {path} does not exist; {remedy}")
    return path


def paired(images: Mapping[str, Path], masks: Mapping[str, Path], where: Path) -> list[FilePair]:
    """Joins images and masks by name, sorted by name.

    Raises:
        DataError: an image without mask, a mask without image, or no image at all.
    """
    if not images:
        raise DataError(f"{where} holds no images; set dataset.root or the split to where they lie")
    lonely = [("mask", path) for name, path in images.items() if name not in masks]
    lonely += [("image", path) for name, path in masks.items() if name not in images]
    if lonely:
        listed = "; ".join(f"{path} has no {missing}" for missing, path in lonely[:5])
        rest = f"; and {len(lonely) - 5} more" if len(lonely) > 5 else ""
        raise DataError(f"{len(lonely)} files without a partner: {listed}{rest}")
    return [FilePair(name, images[name], masks[name]) for name in sorted(images)]
