"""What fault injection shares; how to use it stands in zygote.py."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ccnet.schema import RunConfig
from tests.conftest import write_folder
from tests.faults.zygote import Zygote, outcome, run_config, start_server, train

MEMORY = Path("/dev/shm")

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
def server() -> None:
    """The warmed process."""
    start_server()


@pytest.fixture
def zygote(server: None, tmp_path: Path) -> Iterator[Zygote]:
    """Forks victims, none of which outlives the test."""
    zygote = Zygote(tmp_path)
    yield zygote
    zygote.bury()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images to train on and five to evaluate on, of two classes."""
    return write_folder(tmp_path_factory.mktemp("data"), count=5)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where the system offers that: flushing a disk takes longer than all the rest."""
    if not MEMORY.is_dir():
        yield tmp_path / "runs"
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="ccnet-") as folder:
        yield Path(folder)


@pytest.fixture
def config(data: Path, place: Path) -> RunConfig:
    """Of a run of eight steps in place / "run"."""
    return run_config(data, place)


@pytest.fixture(scope="session")
def reference(server: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("reference")
    Zygote(folder).finish(train, run_config(data, folder))
    return outcome(folder / "run")
