"""Training images that cannot be read: replaced, counted and named."""

import logging
from collections.abc import Mapping, Sequence

from ccnet.data.sample import LabelledImages, Sample
from ccnet.errors import DataError

TRIES = 10
LARGEST_SHARE = 0.001

logger = logging.getLogger("ccnet")


def first_readable(dataset: LabelledImages, candidates: Sequence[int], skipped: dict[int, str]) -> Sample:
    """The first of the candidates that can be read; what is wrong with those before it goes into `skipped`.

    Raises:
        DataError: of the last candidate, where none can be read.
    """
    *others, last = candidates
    for index in others:
        try:
            return dataset[index]
        except DataError as error:
            skipped[index] = str(error)
    return dataset[last]


class BadSamples:
    """Counts the images that a process left out, each of them once.

    Ranks count apart from each other, so each may leave out its part of what all of them may. A resumed run starts the
    count anew.

    Args:
        total: images of the data set, of which one in a thousand may be bad over all ranks, and one on each in any
            case.
        world_size: number of ranks.
    """

    def __init__(self, total: int, world_size: int = 1) -> None:
        self.total, self.world_size = total, world_size
        self.limit = max(1, int(total * LARGEST_SHARE) // world_size)
        self.skipped: dict[int, str] = {}

    def add(self, skipped: Mapping[int, str]) -> None:
        """Takes in what a batch left out, by index in the data set.

        Raises:
            DataError: more than the limit.
        """
        self.skipped.update(skipped)
        if len(self.skipped) > self.limit:
            raise DataError(
                f"{len(self.skipped)} of {self.total} training images cannot be read and "
                f"trainer.on_bad_sample=skip allows {self.limit}{self._share()}: {self._listed()}"
            )

    def report(self) -> None:
        """One line that names them all, where there are any."""
        if self.skipped:
            logger.warning("left out %d of %d training images: %s", len(self.skipped), self.total, self._listed())

    def _share(self) -> str:
        return f" on each of {self.world_size} ranks" if self.world_size > 1 else ""

    def _listed(self) -> str:
        return "; ".join(self.skipped.values())
