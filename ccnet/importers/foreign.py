"""What a source's reader hands over: a foreign network in our words."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ccnet.data.sample import IGNORE_INDEX
from ccnet.errors import CheckpointError
from ccnet.importers.source import Source
from ccnet.importers.translation import Names, width_of


@dataclass(frozen=True)
class Told:
    """What a file says about its classes; it is not trusted, and may be anything."""

    names: object = None
    palette: object = None


@dataclass(frozen=True)
class Foreign:
    """A foreign network in our words.

    source: the file, whose tensors mean here what they mean in our network.
    overrides: of configs/train.yaml, which make this network and the input that it wants.
    names: their names and ours.
    num_classes: of the classifier.
    told: what the file says about the classes.
    notes: lines on what was taken from where.
    is_recurrence_told: by the file or the caller; it is a default otherwise.
    """

    source: Source
    overrides: list[str]
    names: Names
    num_classes: int
    told: Told = Told()
    notes: Sequence[str] = field(default=())
    is_recurrence_told: bool = True


def classes_in(source: Source, name: str) -> int:
    """The number of classes, by the name of the classifier's weight.

    Raises:
        CheckpointError: no such tensor, more classes than a mask can hold, or one logit for two classes.
    """
    found = width_of(source, name, IGNORE_INDEX)
    if found == 1:
        raise CheckpointError(
            f"{source.path}: {name} gives one logit, which a threshold decides on; here the largest logit decides, "
            "and one alone would always be class 0"
        )
    return found


def auxiliary_overrides(source: Source, conv: str) -> list[str]:
    """The auxiliary head as it is in the file, by the name of its convolution's weight; none where it is missing."""
    if conv not in source.state:
        return ["loss.auxiliary_weight=0.0"]
    return ["loss.auxiliary_weight=0.4", f"auxiliary_head.channels={width_of(source, conv)}"]
