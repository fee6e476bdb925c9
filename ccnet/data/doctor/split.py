"""The mistakes of a split: those of its samples, put together, and those that only many samples show."""

from collections.abc import Sequence

import numpy as np

from ccnet.data.cityscapes import CLASSES, label_table
from ccnet.data.doctor.diagnosis import Diagnosis, diagnose, grey_levels, reads_indices, stored_as_read
from ccnet.data.doctor.examination import Examination
from ccnet.data.doctor.findings import Finding, Kind, Severity, first_files, listed_labels
from ccnet.data.sample import IGNORE_INDEX, LabelledImages, SegmentationDataset

BY_CHANCE = 1e-3  # so improbable must it be that classes happen to be grey levels of the palette


def check_split(split: str, dataset: LabelledImages, examinations: Sequence[Examination]) -> list[Finding]:
    """All mistakes that the samples looked at show, errors first, the most frequent of them foremost."""
    found = _sample_findings(split, dataset, examinations)
    if reads_indices(dataset):
        found += _silent_findings(split, dataset, examinations)
    if not isinstance(dataset, SegmentationDataset) or dataset.labelled:
        found += _ignored_findings(split, examinations)
    return sorted(found, key=lambda finding: (finding.severity, -finding.count))


def absent_classes(split: str, dataset: LabelledImages, examinations: Sequence[Examination]) -> list[Finding]:
    """The classes that no pixel looked at has; none where nothing could be read, which other findings say."""
    read = [each.sample for each in examinations if each.sample is not None]
    present = {label for sample in read for label in sample.labels}
    absent = [name for index, name in enumerate(dataset.class_names) if index not in present]
    if not absent or not read:
        return []
    values = f"{', '.join(absent)} in {len(read)} of {len(dataset)} images"
    return [Finding(Kind.ABSENT_CLASS, Severity.WARNING, split, values)]


def _sample_findings(split: str, dataset: LabelledImages, examinations: Sequence[Examination]) -> list[Finding]:
    """One per kind, with the labels and files of all its samples."""
    groups: dict[Kind, list[tuple[Diagnosis, Examination]]] = {}
    for examination in examinations:
        if diagnosis := diagnose(examination, dataset):
            groups.setdefault(diagnosis.kind, []).append((diagnosis, examination))
    found = []
    for kind, group in groups.items():
        files = [each.image if kind is Kind.UNREADABLE else each.mask for _, each in group]
        found.append(_finding(kind, split, _values([diagnosis for diagnosis, _ in group]), files, examinations))
    return found


def _values(diagnoses: Sequence[Diagnosis]) -> str:
    labels = [label for diagnosis in diagnoses for label in diagnosis.labels]
    return listed_labels(labels) if labels else diagnoses[0].text


def _silent_findings(split: str, dataset: LabelledImages, examinations: Sequence[Examination]) -> list[Finding]:
    """Labels that are all valid and none of them meant so, which a single mask would not tell."""
    read = [each for each in examinations if each.sample is not None and each.files is not None and each.files.stored]
    stored = {label for each in read if each.files is not None for label in each.files.stored or ()}
    if not stored:
        return []
    kind = silent_kind(stored, dataset)
    return [_finding(kind, split, listed_labels(stored), [each.mask for each in read], examinations)] if kind else []


def silent_kind(stored: set[int], dataset: LabelledImages) -> Kind | None:
    """The mistake that all labels stored in some masks show together, none where they look right."""
    if stored == {0, IGNORE_INDEX} and stored_as_read(dataset) and dataset.num_classes > 1:
        return Kind.BINARY
    table = dataset.label_table if isinstance(dataset, SegmentationDataset) else None
    # labelIds go on where train ids end, and 255 is none of them.
    train_ids = IGNORE_INDEX in stored and stored <= {*range(len(CLASSES)), IGNORE_INDEX}
    if train_ids and table is not None and np.array_equal(table, label_table()):
        return Kind.TRAIN_IDS
    return Kind.GREY_PALETTE if stored_as_read(dataset) and _are_grey_levels(stored, dataset) else None


def _are_grey_levels(stored: set[int], dataset: LabelledImages) -> bool:
    """Whether all classes seen are grey levels of the palette, more of them than could be so by chance."""
    levels, classes = grey_levels(dataset.palette), range(dataset.num_classes)
    own = {label for label in classes if label in grey_levels([dataset.palette[label]])}
    seen = stored - own - {IGNORE_INDEX}
    share = len(levels.intersection(classes)) / dataset.num_classes
    return seen <= levels.intersection(classes) and share ** len(seen) < BY_CHANCE


def _ignored_findings(split: str, examinations: Sequence[Examination]) -> list[Finding]:
    """An error where all masks are like that; some may be meant so."""
    read = [each for each in examinations if each.sample is not None]
    ignored = [each.mask for each in read if each.sample is not None and each.sample.labels.keys() == {IGNORE_INDEX}]
    if not ignored:
        return []
    severity = Severity.ERROR if len(ignored) == len(read) else Severity.WARNING
    return [_finding(Kind.IGNORED, split, listed_labels([IGNORE_INDEX]), ignored, examinations, severity)]


def _finding(
    kind: Kind,
    split: str,
    values: str,
    files: Sequence[str],
    examinations: Sequence[Examination],
    severity: Severity = Severity.ERROR,
) -> Finding:
    return Finding(kind, severity, split, values, first_files(files), len(files), len(examinations))
