"""Why a data set refuses a sample, or reads it and is wrong, one sample at a time."""

from collections.abc import Iterable
from dataclasses import dataclass

from ccnet.data.cityscapes import CLASSES, NUM_LABEL_IDS
from ccnet.data.doctor.examination import Examination
from ccnet.data.doctor.files import INDEX_MODES, FileFacts, Size
from ccnet.data.doctor.findings import Kind
from ccnet.data.sample import IGNORE_INDEX, Color, LabelledImages, SegmentationDataset, read_stored
from ccnet.data.voc import CLASS_NAMES, voc_color

AS_STORED = 1.1  # of `FileFacts.edges_as_stored`, above which the image should not have been turned
MADE_UP = 8  # unknown labels of few pixels each: no one invents so many
FEW = 0.05  # of the pixels
VOC_BORDER = (224, 224, 192)


@dataclass(frozen=True)
class Diagnosis:
    """A mistake in one sample, and what shows it: labels, or anything else as text."""

    kind: Kind
    labels: tuple[int, ...] = ()
    text: str = ""


def diagnose(examination: Examination, dataset: LabelledImages) -> Diagnosis | None:
    """The first mistake that explains a sample; None where it looks right.

    Args:
        examination: of the sample.
        dataset: for what its labels mean.
    """
    files = examination.files
    if files is not None and (found := _of_shape(files) or _of_storage(files, examination, dataset)):
        return found
    if examination.error is not None:
        return Diagnosis(Kind.UNREADABLE, text=examination.error)
    unknown = _strangers(examination.sample.labels, dataset) if examination.sample is not None else []
    return Diagnosis(Kind.UNKNOWN_LABEL, tuple(unknown)) if unknown else None


def stored_as_read(dataset: LabelledImages) -> bool:
    """Whether a stored label is the class index itself."""
    return reads_indices(dataset) and isinstance(dataset, SegmentationDataset) and dataset.label_table is None


def reads_indices(dataset: LabelledImages) -> bool:
    """Whether the masks hold numbers, rather than colours or what a reader of one's own knows."""
    return isinstance(dataset, SegmentationDataset) and dataset.read_labels is read_stored


def is_cityscapes(dataset: LabelledImages) -> bool:
    """Whether most class names are those of Cityscapes."""
    return len(set(CLASSES) & set(dataset.class_names)) > len(CLASSES) / 2


def unknown_labels(stored: Iterable[int], dataset: LabelledImages) -> list[int]:
    """Stored labels that are neither a class nor ignored, after the data set's own mapping."""
    table = dataset.label_table if isinstance(dataset, SegmentationDataset) else None
    mapped = {label: int(table[label]) if table is not None and label < len(table) else label for label in stored}
    strangers = _strangers(mapped.values(), dataset)
    return [label for label, index in mapped.items() if index in strangers]


def grey_levels(palette: Iterable[Color]) -> set[int]:
    """What Pillow's and OpenCV's conversion to grey make of colours (ITU-R BT.601)."""
    pillow = {(19595 * r + 38470 * g + 7471 * b + 32768) >> 16 for r, g, b in palette}
    opencv = {(4899 * r + 9617 * g + 1868 * b + 8192) >> 14 for r, g, b in palette}
    return pillow | opencv


def known_grey_levels(dataset: LabelledImages) -> set[int]:
    """Of the data set's palette, VOC's, and what marks ignored pixels."""
    voc = [voc_color(index) for index in range(len(CLASS_NAMES))]
    return grey_levels([*dataset.palette, *voc, VOC_BORDER, (0, 0, 0), (255, 255, 255)])


def _strangers(labels: Iterable[int], dataset: LabelledImages) -> list[int]:
    """Labels that are neither a class nor ignored."""
    return [label for label in labels if label != IGNORE_INDEX and not 0 <= label < dataset.num_classes]


def _of_shape(files: FileFacts) -> Diagnosis | None:
    """What headers and edges tell: compression, sizes, rotation."""
    image, mask = files.image, files.mask
    if image is None or mask is None:
        return None
    if mask.format == "JPEG":
        return Diagnosis(Kind.LOSSY, text="format JPEG")
    turned = f"EXIF orientation {image.orientation} in the image, {mask.orientation} in the mask"
    if image.upright_size != mask.upright_size:
        if image.orientation != mask.orientation and image.size == mask.size:
            return Diagnosis(Kind.EXIF, text=turned)
        sizes = f"an image of {_size(image.upright_size)} and a mask of {_size(mask.upright_size)} pixels"
        return Diagnosis(Kind.SIZE, text=sizes)
    if files.edges_as_stored is not None and files.edges_as_stored > AS_STORED:
        better = f"edges agree {files.edges_as_stored:.1f} times as well without turning"
        return Diagnosis(Kind.EXIF, text=f"{turned}; {better}")
    return None


def _of_storage(files: FileFacts, examination: Examination, dataset: LabelledImages) -> Diagnosis | None:
    """What the mask's pixels tell."""
    error = examination.error
    if error is not None and files.mask is not None and files.mask.mode not in INDEX_MODES and reads_indices(dataset):
        return Diagnosis(Kind.COLORS, text=f"mode {files.mask.mode}")
    if not reads_indices(dataset):
        about_colors = error is not None and error.startswith(f"mask {examination.mask} holds ")
        return Diagnosis(Kind.COLORS, text=str(error)) if about_colors else None
    if files.stored is None or examination.sample is not None:
        return None
    unknown = unknown_labels(files.stored, dataset)
    return Diagnosis(_kind_of(unknown, files.stored, dataset), tuple(unknown)) if unknown else None


def _kind_of(unknown: list[int], stored: dict[int, int], dataset: LabelledImages) -> Kind:
    """The mistake that makes such labels, the most telling first."""
    if max(unknown) > IGNORE_INDEX:
        return Kind.WIDE_IDS
    if is_cityscapes(dataset) and stored_as_read(dataset) and max(unknown) < NUM_LABEL_IDS:
        return Kind.LABEL_IDS
    if stored.keys() <= known_grey_levels(dataset):
        return Kind.GREY_PALETTE
    rare = [label for label in unknown if stored[label] < FEW * sum(stored.values())]
    if len(rare) == len(unknown) >= MADE_UP:
        return Kind.LOSSY
    return Kind.UNKNOWN_LABEL


def _size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
