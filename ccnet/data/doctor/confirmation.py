"""Mistakes in what labels mean: a few masks of a right data set may look so, and more are read before one counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ccnet.data.doctor.examination import Examination
from ccnet.data.doctor.files import label_counts
from ccnet.data.doctor.findings import Finding, Kind, Severity
from ccnet.data.doctor.split import silent_kind
from ccnet.data.sample import IGNORE_INDEX, LabelledImages, SegmentationDataset
from ccnet.errors import DataError

MASKS = 500  # read beside those looked at, at most
MEANINGS = (Kind.BINARY, Kind.TRAIN_IDS)  # the same in all splits of a data set


def confirmed(
    findings: Sequence[Finding],
    dataset: LabelledImages,
    examinations: Sequence[Examination],
    looked_at: Sequence[int],
    seed: int,
) -> list[Finding]:
    """The findings, less those that further masks contradict; a warning stands for ignored masks where some are not.

    Masks are read, and no image, in random order until one contradicts or `MASKS` of them do not.

    Args:
        findings: of a split.
        dataset: the split.
        examinations: that they were made from.
        looked_at: indices of these.
        seed: of the order.
    """
    order, known = np.random.default_rng(seed).permutation(len(dataset)).tolist(), set(looked_at)
    further = [index for index in order if index not in known][:MASKS]
    stored = {label for each in examinations if each.files is not None for label in each.files.stored or ()}
    kept = []
    for finding in findings:
        if finding.kind in MEANINGS and isinstance(dataset, SegmentationDataset):
            kept += _of_meaning(finding, dataset, stored, further)
        elif finding.kind is Kind.IGNORED and finding.severity is Severity.ERROR:
            kept.append(_of_ignored(finding, dataset, further))
        else:
            kept.append(finding)
    return kept


def held_against_train(findings: Sequence[Finding], train: str) -> list[Finding]:
    """Labels mean the same in all splits: what a small split shows and the training split does not is a warning."""
    of_train = {finding.kind for finding in findings if finding.split == train}
    doubtful = set(MEANINGS) - of_train
    return [replace(each, severity=Severity.WARNING) if each.kind in doubtful else each for each in findings]


def _of_meaning(
    finding: Finding, dataset: SegmentationDataset, stored: set[int], further: Sequence[int]
) -> list[Finding]:
    """The finding after more masks, none where they contradict it."""
    counted = (label_counts(mask) for index in further if (mask := dataset.pairs[index].mask))
    readable, seen = 0, set(stored)
    for labels in counted:
        if labels is None:
            continue
        readable, seen = readable + 1, seen | labels.keys()
        if silent_kind(seen, dataset) is not finding.kind:
            return []
    return [_after(finding, readable)]


def _of_ignored(finding: Finding, dataset: LabelledImages, further: Sequence[int]) -> Finding:
    readable = 0
    for index in further:
        try:
            labels = dataset.labels(index)
        except DataError:
            continue
        if (labels != IGNORE_INDEX).any():
            return replace(finding, severity=Severity.WARNING)
        readable += 1
    return _after(finding, readable)


def _after(finding: Finding, more: int) -> Finding:
    return replace(finding, count=finding.count + more, looked_at=finding.looked_at + more)
