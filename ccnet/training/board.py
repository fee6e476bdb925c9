"""TensorBoard's files of a run, without gaps or doubles over its interruptions."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ccnet.training.rows import writing

EVENTS = "events.out.tfevents.*"


class Board:
    """One file of events more in the folder. A thread writes it: what the disk refuses shows at any later call.

    Args:
        folder: of all the run's event files.
        purge_step: what older files hold from this step on does not count.

    Raises:
        UserError: the disk refuses; so does every method.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.folder = folder
        with writing(folder):
            self.writer = _open(folder, purge_step)

    def scalars(self, step: int, section: str, row: Mapping[str, float]) -> None:
        """Each finite value as SECTION/name, or by its name where that has a section."""
        with writing(self.folder):
            for name, value in row.items():
                if math.isfinite(value):
                    self.writer.add_scalar(name if "/" in name else f"{section}/{name}", value, step)

    def picture(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """An image (H, W, 3)."""
        with writing(self.folder):
            self.writer.add_image(name, image, step, dataformats="HWC")

    def text(self, name: str, text: str) -> None:
        """A text as it is, not as Markdown."""
        with writing(self.folder):
            self.writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))

    def hparams(self, values: Mapping[str, Any], metrics: Iterable[str]) -> None:
        """A line in the table of runs.

        Args:
            values: the run's settings; lists and the like are shown as text.
            metrics: tags of scalars that stand beside them. SummaryWriter.add_hparams would begin a run of its own.
        """
        assert self.writer.file_writer is not None
        plain = {key: each if isinstance(each, bool | str | float | int) else str(each) for key, each in values.items()}
        with writing(self.folder):
            for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
                self.writer.file_writer.add_summary(summary)

    def flush(self) -> None:
        """Hands all events to the operating system: they outlive the process."""
        with writing(self.folder):
            self.writer.flush()

    def close(self) -> None:
        """No more events."""
        with writing(self.folder):
            self.writer.close()


def _open(folder: Path, purge_step: int) -> SummaryWriter:
    """A writer whose file is read last: TensorBoard goes by names, which begin with the second of their making, then
    tell host and process. A run that is killed and continued within a second might get a name before the old one."""
    if purge_step == 0:  # the purge spares texts
        for path in folder.glob(EVENTS):
            with suppress(PermissionError):  # a TensorBoard on Windows has it open
                path.unlink()
    older = {*folder.glob(EVENTS)}
    patience = time.monotonic() + 1.1
    while True:
        writer = SummaryWriter(str(folder), purge_step=purge_step)
        own = {*folder.glob(EVENTS)} - older
        if max(older | own) in own or time.monotonic() > patience:
            return writer
        writer.close()
        for path in own:
            path.unlink()
        time.sleep(0.1)
