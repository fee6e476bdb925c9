"""What an inspection leaves in its folder: statistics.json, and index.html with samples as the network sees them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccnet.data.loader import Augmentation
from ccnet.errors import DataError
from ccnet.inspection.contact_sheet import write_contact_sheet
from ccnet.inspection.inspect import Inspection
from ccnet.schema import RunConfig


def make_folder(folder: Path) -> None:
    """Makes a folder where there is none.

    Raises:
        DataError: it cannot be made.
    """
    with _one_line(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_output(folder: Path, inspection: Inspection, config: RunConfig, augmentation: Augmentation) -> None:
    """Writes all findings and figures, and a page of samples of the first split that could be opened.

    Args:
        folder: exists.
        inspection: what was found.
        config: that was looked at.
        augmentation: what training applies.

    Raises:
        DataError: a file cannot be written.
    """
    with _one_line(folder):
        text = json.dumps(inspection.as_dict(), indent=2)
        (folder / "statistics.json").write_text(f"{text}\n", encoding="utf-8")
        for split, dataset in list(inspection.datasets.items())[:1]:
            sheet, title = folder / "index.html", f"{config.dataset['_target_']}, {split}"
            write_contact_sheet(sheet, title, dataset, augmentation, seed=config.seed, findings=inspection.findings)
            print(f"samples as the network sees them: {sheet}")


@contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} cannot be written to ({error}); name another folder with --output") from error
