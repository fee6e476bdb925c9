"""What the doctor finds, and how it says so."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

LISTED = 5  # files of a finding that are named


class Severity(StrEnum):
    """Whether training would be wrong, or perhaps is meant to be like that."""

    ERROR = "error"
    WARNING = "warning"


class Kind(StrEnum):
    """Each mistake by the name that statistics.json gives it."""

    LABEL_IDS = "label_ids"
    TRAIN_IDS = "train_ids"
    COLORS = "colors"
    GREY_PALETTE = "grey_palette"
    BINARY = "binary"
    WIDE_IDS = "wide_ids"
    LOSSY = "lossy"
    SIZE = "size"
    EXIF = "exif"
    IGNORED = "ignored"
    FILES = "files"
    LEAK = "leak"
    SHARED_FILES = "shared_files"
    SHARED_NAMES = "shared_names"
    ABSENT_CLASS = "absent_class"
    UNKNOWN_LABEL = "unknown_label"
    UNREADABLE = "unreadable"


EXPLANATIONS = {  # what is wrong, what to do
    Kind.LABEL_IDS: (
        "masks hold Cityscapes labelIds where train ids belong",
        "read them with dataset=cityscapes, or say dataset.label_map, id to class",
    ),
    Kind.TRAIN_IDS: (
        "files named labelIds hold train ids already, and would be mapped twice",
        "put the original labelIds files back, or read the masks with dataset=folder",
    ),
    Kind.COLORS: (
        "masks hold colours that are no class",
        "store one class index per pixel, or set dataset.mask_format=color and name each colour in dataset.palette",
    ),
    Kind.GREY_PALETTE: (
        "masks hold the grey levels of palette colours: indices were expanded to colours and those to grey",
        "take the indices out of the palette PNG as they are, np.asarray(Image.open(path)) without convert('L')",
    ),
    Kind.BINARY: (
        "masks hold 0 and 255 only, and 255 is ignored: no pixel is left of any class but the first",
        "say dataset.label_map={0: 0, 255: 1}, or store 1 in place of 255; where 255 does mean ignored, say so: "
        "dataset.label_map={0: 0, 1: 1, 255: 255}",
    ),
    Kind.WIDE_IDS: (
        "masks hold 16-bit ids above 255, which 8 bits would wrap (300 becomes 44)",
        "say dataset.label_map, id to class, or store class indices below 255",
    ),
    Kind.LOSSY: (
        "masks were compressed with loss or resized with interpolation, which makes up labels along every edge",
        "export the masks again as PNG, resized with nearest neighbour only",
    ),
    Kind.SIZE: ("masks and images differ in size", "export both at one size, masks with nearest neighbour"),
    Kind.EXIF: (
        "images are turned by their EXIF orientation and the masks are not",
        "write the images as they were labelled and without EXIF orientation, or turn the masks likewise",
    ),
    Kind.IGNORED: ("masks have no pixel of any class, all is ignored", "label these images or take them out"),
    Kind.FILES: ("the split cannot be opened", ""),  # the data set's own error says what to do
    Kind.LEAK: (
        "images with the same content lie in two splits, so that validation scores what was learnt by heart",
        "take them out of one of the splits",
    ),
    Kind.SHARED_FILES: (
        "the same files belong to both splits, so that validation scores what was learnt by heart",
        "choose splits without common files where the score matters",
    ),
    Kind.SHARED_NAMES: (
        "different images have the same name in both splits",
        "see that they are not one picture in two versions, and rename them if they are not",
    ),
    Kind.ABSENT_CLASS: (
        "classes have no pixel in the training images looked at",
        "label some, or do without the class",
    ),
    Kind.UNKNOWN_LABEL: (
        "masks hold labels that are no class",
        "list every class in dataset.class_names, or say dataset.label_map, id to class",
    ),
    Kind.UNREADABLE: ("samples cannot be read", "replace these files or take them out"),
}


@dataclass(frozen=True)
class Finding:
    """A mistake and where it shows.

    count: files with it, of `looked_at`; `files` names the first few of them.
    values: what was seen, such as `labels 19, 21, 33`.
    """

    kind: Kind
    severity: Severity
    split: str
    values: str
    files: tuple[str, ...] = ()
    count: int = 0
    looked_at: int = 0

    @property
    def what(self) -> str:
        """What is wrong."""
        return EXPLANATIONS[self.kind][0]

    @property
    def remedy(self) -> str:
        """What to do, in a sentence; empty where `values` say it."""
        return EXPLANATIONS[self.kind][1]

    def message(self) -> str:
        """All of it in a line."""
        share = f" ({self.count} of {self.looked_at})" if self.looked_at else ""
        more = f" and {self.count - len(self.files)} more" if self.count > len(self.files) else ""
        named = all(file in self.values for file in self.files)  # by what the data set said of them
        where = "" if named else f" in {', '.join(self.files)}{more}"
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.split}: {self.what}{share}: {self.values}{where}{remedy}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "what": self.what, "remedy": self.remedy}


def listed_labels(labels: Iterable[int], limit: int = 8) -> str:
    """`labels 19, 21, 33`, the first few."""
    ordered = sorted(set(labels))
    return f"labels {', '.join(map(str, ordered[:limit]))}{', ...' if len(ordered) > limit else ''}"


def first_files(files: Sequence[str]) -> tuple[str, ...]:
    """Those that a finding names."""
    return tuple(files[:LISTED])
