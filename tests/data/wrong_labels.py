"""A folder of labelled pictures, and everything that can be wrong with its labels, made on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.data.cityscapes import CLASSES
from ccnet.data.doctor.findings import Kind
from ccnet.data.folder import Folder
from ccnet.data.voc import voc_color

SIZE = (48, 64)
NUM_IMAGES = {"train": 6, "val": 3}
PALETTE = [voc_color(index) for index in range(4)]
ORIENTATION = 0x0112


def write(root: Path, labels: tuple[int, ...] = (0, 1, 2, 3)) -> Path:
    """Pictures that show their labels as brightness, in a pattern that looks different upside down."""
    rng = np.random.default_rng(0)
    for split, count in NUM_IMAGES.items():
        for index in range(count):
            classes = np.sort(rng.integers(0, len(labels), SIZE[0]))[:, None].repeat(SIZE[1], axis=1)
            classes[:, : int(rng.integers(8, 24))] = index % len(labels)
            shades = np.array([20, 90, 160, 230])[classes % 4] + rng.integers(-9, 9, SIZE)
            mask = np.array(labels, dtype=np.uint8)[classes]
            mask[:2] = 255
            for kind, pixels in (("images", shades[..., None].repeat(3, axis=2)), ("masks", mask)):
                path = root / kind / split / f"{split}_{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return root


def open_split(root: Path, split: str, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Folder:
    return Folder(str(root), split, names, [voc_color(index) for index in range(len(names))])


def each_mask(root: Path, change: Callable[[np.ndarray], np.ndarray | Image.Image], pattern: str = "*/*.png") -> None:
    for path in (root / "masks").glob(pattern):
        changed = change(np.asarray(Image.open(path)))
        (changed if isinstance(changed, Image.Image) else Image.fromarray(changed)).save(path)


def palette_image(mask: np.ndarray) -> Image.Image:
    picture = Image.fromarray(mask)
    picture.putpalette([channel for index in range(256) for channel in voc_color(index)])
    return picture


def label_ids(root: Path) -> None:
    each_mask(root, lambda mask: np.array([7, 11, 21, 26, *[0] * 252], np.uint8)[mask])


def rgb(root: Path) -> None:
    each_mask(root, lambda mask: palette_image(mask).convert("RGB"))


def grey(root: Path) -> None:
    each_mask(root, lambda mask: palette_image(mask).convert("L"))


def binary(root: Path) -> None:
    each_mask(root, lambda mask: (mask > 1).astype(np.uint8) * 255)


def wide(root: Path) -> None:
    each_mask(root, lambda mask: mask.astype(np.uint16) + 299)


def jpeg(root: Path) -> None:
    for path in (root / "masks").glob("*/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def jpeg_in_png(root: Path) -> None:
    """Decoded and stored again as PNG: only the labels that compression made up tell."""
    each_mask(root, lambda mask: (mask > 1).astype(np.uint8) * 255)
    jpeg(root)
    for path in (root / "masks").glob("*/*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()


def size(root: Path) -> None:
    each_mask(root, lambda mask: mask[:40, :50])


def exif(root: Path, orientation: int) -> None:
    """The image carries an orientation; its mask was drawn on the pixels as stored."""
    for path in (root / "images").glob("*/*.png"):
        picture = Image.open(path)
        picture.getexif()[ORIENTATION] = orientation
        picture.save(path, exif=picture.getexif())


def ignored(root: Path) -> None:
    each_mask(root, lambda mask: np.full_like(mask, 255))


def lonely(root: Path) -> None:
    (root / "masks" / "train" / "train_2.png").unlink()


def leak(root: Path) -> None:
    """Another name, the same picture."""
    for kind in ("images", "masks"):
        (root / kind / "val" / "val_1.png").write_bytes((root / kind / "train" / "train_4.png").read_bytes())


@dataclass(frozen=True)
class Mistake:
    """How it is made, what the doctor calls it, and what a message must name."""

    make: Callable[[Path], None]
    kind: Kind
    words: tuple[str, ...]
    names: tuple[str, ...] = ("a", "b", "c", "d")


TRAIN_MASK = str(Path("masks") / "train" / "train_")
MISTAKES = {
    "labelIds as train ids": Mistake(label_ids, Kind.LABEL_IDS, ("labels 21, 26", TRAIN_MASK, "dataset=cityscapes"),
                                     tuple(CLASSES)),
    "RGB masks": Mistake(rgb, Kind.COLORS, ("mode RGB", TRAIN_MASK, "dataset.palette")),
    "palette expanded to grey": Mistake(grey, Kind.GREY_PALETTE, ("labels 38, 75, 113", TRAIN_MASK, "np.asarray")),
    "0 and 255": Mistake(binary, Kind.BINARY, ("labels 0, 255", TRAIN_MASK, "label_map={0: 0, 255: 1}")),
    "16-bit ids": Mistake(wide, Kind.WIDE_IDS, ("labels 299, 300, 301", TRAIN_MASK, "dataset.label_map")),
    "JPEG masks": Mistake(jpeg, Kind.LOSSY, ("format JPEG", TRAIN_MASK, "as PNG")),
    "JPEG masks in PNG": Mistake(jpeg_in_png, Kind.LOSSY, ("labels 4, 5", TRAIN_MASK, "as PNG")),
    "size": Mistake(size, Kind.SIZE, ("an image of 64x48 and a mask of 50x40", TRAIN_MASK, "at one size")),
    "EXIF, on its side": Mistake(lambda root: exif(root, 6), Kind.EXIF, ("EXIF orientation 6", TRAIN_MASK, "turn")),
    "EXIF, upside down": Mistake(lambda root: exif(root, 3), Kind.EXIF, ("EXIF orientation 3", TRAIN_MASK, "turn")),
    "EXIF, mirrored": Mistake(lambda root: exif(root, 2), Kind.EXIF, ("EXIF orientation 2", TRAIN_MASK, "turn")),
    "all ignored": Mistake(ignored, Kind.IGNORED, ("labels 255", TRAIN_MASK, "label these images")),
    "missing partner": Mistake(lonely, Kind.FILES, ("1 files without a partner", "train_2.png has no mask")),
    "the same image in both splits": Mistake(leak, Kind.LEAK, ("val_1", "train_4.png = ", "one of the splits")),
}  # fmt: skip
