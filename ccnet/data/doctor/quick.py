"""The doctor's glance before the first step of a training run."""

import logging
from collections.abc import Sequence

from ccnet.data.cache import CachedImages
from ccnet.data.doctor.between import check_between
from ccnet.data.doctor.confirmation import confirmed, held_against_train
from ccnet.data.doctor.examination import chosen, examine
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.doctor.split import absent_classes, check_split
from ccnet.data.sample import LabelledImages, SegmentationDataset
from ccnet.errors import DataError

logger = logging.getLogger("ccnet")

COMPARED = 32  # contents of files, at most
NAMES = ("train", "val")


def quick_check(
    train_set: LabelledImages,
    val_set: LabelledImages,
    *,
    seed: int = 0,
    images: int = 6,
    skip_unreadable: bool = False,
) -> list[Finding]:
    """Looks at a few random samples of both splits for labels that would train and be wrong; logs what may be meant so.

    What a few samples may show by chance counts once more masks agree.

    Args:
        train_set, val_set: the splits.
        seed: of the choice.
        images: looked at in each split.
        skip_unreadable: training leaves out files that cannot be read, so that they are none of its mistakes.

    Returns:
        The warnings.

    Raises:
        DataError: the first mistake, in a line that names files, values and remedy.
    """
    findings: list[Finding] = []
    # A cache holds class indices; the mistakes are in the files that it was made of.
    train_files = train_set.dataset if isinstance(train_set, CachedImages) else train_set
    for name, dataset in zip(NAMES, (train_files, val_set), strict=True):
        looked_at = chosen(len(dataset), images, seed)
        examinations = [examine(dataset, index) for index in looked_at]
        found = confirmed(check_split(name, dataset, examinations), dataset, examinations, looked_at, seed)
        if name == "train" and skip_unreadable:
            found = [finding for finding in found if finding.kind is not Kind.UNREADABLE]
        if name == "train" and len(examinations) == len(dataset):
            found += absent_classes(name, dataset, examinations)
        findings += found
    findings += _leaks(train_files, val_set, images, seed)
    return _raise_or_warn(held_against_train(findings, NAMES[0]))


def _leaks(train_set: LabelledImages, val_set: LabelledImages, images: int, seed: int) -> list[Finding]:
    if not isinstance(train_set, SegmentationDataset) or not isinstance(val_set, SegmentationDataset):
        return []
    looked_at = [val_set.pairs[index] for index in chosen(len(val_set), images, seed)]
    found = check_between(NAMES, train_set.pairs, looked_at, most=COMPARED)
    # Folders often number their files, each split from 0: tools/inspect_data.py mentions that, a run need not.
    return [finding for finding in found if finding.kind is not Kind.SHARED_NAMES]


def _raise_or_warn(findings: Sequence[Finding]) -> list[Finding]:
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        more = f" ({len(errors) - 1} more mistakes)" if len(errors) > 1 else ""
        raise DataError(f"{errors[0].message()}{more}; python tools/inspect_data.py, with the same words, shows all")
    for finding in findings:
        logger.warning("data: %s", finding.message())
    return list(findings)
