"""Worker processes: deaf to signals, never waited for in vain, never left behind."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import ccnet.data.workers as workers_module
from ccnet.data.cache import CachedImages
from ccnet.data.folder import Folder
from ccnet.data.loader import evaluation_batches
from ccnet.data.sample import Sample
from ccnet.errors import DataError
from ccnet.preparation.cache_writer import write_cache

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are injected into forked processes")


class Numbers:
    """Samples that say which they are; `faults` happen in a worker before it reads theirs."""

    class_names = ("a",)
    palette = ((0, 0, 0),)
    num_classes = 1
    region_names = ()

    def __init__(self, size: int, faults: dict[int, Callable[[], object]] | None = None) -> None:
        self.size, self.faults = size, faults or {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        self.faults.get(index, bool)()
        image = np.full((4, 4, 3), index % 256, np.uint8)
        return {"image": image, "mask": np.zeros((4, 4), np.uint8), "name": str(index)}


def hang() -> None:
    time.sleep(1000)


def end_by(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


strangers: set[multiprocessing.process.BaseProcess] = set()


def own_children() -> list[multiprocessing.process.BaseProcess]:
    """The child processes that the test has started; another file's may still be there."""
    return [child for child in multiprocessing.active_children() if child not in strangers]


@pytest.fixture(autouse=True)
def nobody_left() -> Iterator[None]:
    """Oracle of every test here: the list of child processes, and whoever handled SIGCHLD before."""
    handler = signal.getsignal(signal.SIGCHLD)
    strangers.clear()
    strangers.update(multiprocessing.active_children())
    yield
    assert own_children() == []
    assert signal.getsignal(signal.SIGCHLD) == handler


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch looks after its workers each half second while it waits for them, in place of every five, and they get one
    second to end, in place of three."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))
    monkeypatch.setattr(workers_module, "GRACE", 1.0)


def in_a_fork(body: Callable[[], object]) -> tuple[int, int]:
    """Runs a function in a process group of its own: its id, and a pipe that it and its workers hold open."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.setsid()
            os.close(reading)
            os.write(writing, b"ready")
            body()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    assert os.read(reading, 5) == b"ready"
    return process, reading


def wait_for_the_end_of_all(reading: int) -> None:
    """A pipe ends when nobody holds it open any more."""
    ready, _, _ = select.select([reading], [], [], 60)
    assert ready, "a process is still there after a minute"
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.parametrize(
    ("fault", "timeout", "message"),
    [
        (hang, 1, "a data worker gave nothing for 1 s; raise trainer.worker_timeout, .*sample 5$"),
        (end_by(signal.SIGSTOP), 1, "a data worker gave nothing for 1 s"),
        (end_by(signal.SIGKILL), 60, r"a data worker died \(SIGKILL\); most often memory .*lower trainer.workers"),
        (lambda: os._exit(3), 60, r"a data worker died \(exit status 3\)"),
    ],
    ids=["hung", "stopped", "killed", "gone"],
)
def test_a_fault_of_a_worker_is_one_line(fault: Callable[[], object], timeout: float, message: str) -> None:
    """Oracle: the message. Torch by itself waits for ever for a stopped worker, whose socket it reads."""
    with pytest.raises(DataError, match=message) as caught:
        list(evaluation_batches(Numbers(9, {5: fault}), workers=2, timeout=timeout))
    assert "\n" not in str(caught.value)


class Deadly(CachedImages):
    """Its second sample ends who reads it."""

    def __getitem__(self, index: int) -> Sample:
        if index == 1:
            os._exit(3)
        return super().__getitem__(index)


def test_a_death_over_a_cache_names_the_file_that_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    """Oracle: the image's path."""
    dataset = Folder(str(folder), "train", ["dark", "bright"], [[0, 0, 0], [255, 255, 255]])
    write_cache(dataset, tmp_path / "cache")
    with pytest.raises(DataError, match=r"exit status 3.*or of the next: .*images.train.[012]\.png$"):
        list(evaluation_batches(Deadly(dataset, tmp_path / "cache"), workers=1))


def test_a_death_is_told_between_steps() -> None:
    """Oracle: the place where the error surfaces; torch's handler of SIGCHLD would raise within the step."""
    batches = evaluation_batches(Numbers(50), workers=2, timeout=60)
    next(batches)
    for worker in own_children():
        worker.kill()
        worker.join()
    with pytest.raises(DataError, match="SIGKILL"):
        list(batches)


def test_other_errors_stay_what_they_are() -> None:
    """Oracle: the type and text of what the data set raised."""

    def broken() -> None:
        raise RuntimeError("of the data set itself")

    with pytest.raises(RuntimeError, match="of the data set itself"):
        list(evaluation_batches(Numbers(9, {5: broken}), workers=2))


def test_messages_keep_all_their_lines() -> None:
    """Oracle: the text that was raised, which names its own type."""
    text = "DataError: first line\nccnet.errors.DataError: second line"

    def broken() -> None:
        raise DataError(text)

    for workers in (0, 1):
        with pytest.raises(DataError) as caught:
            list(evaluation_batches(Numbers(2, {0: broken}), workers=workers))
        assert str(caught.value) == text


@pytest.mark.parametrize("fault", [bool, hang], ids=["working", "hung"])
def test_an_abandoned_iterator_leaves_nobody(fault: Callable[[], object]) -> None:
    """Oracle: the list of children after a training loop that an exception ends."""

    def train() -> None:
        for _ in evaluation_batches(Numbers(50, {4: fault}), workers=2):
            assert len(own_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train()
    del caught  # with it goes the traceback, which holds the iterator
    assert own_children() == []


def test_a_closed_iterator_leaves_nobody() -> None:
    """Oracle: the list of children."""
    batches = evaluation_batches(Numbers(50), workers=2)
    next(batches)
    assert len(own_children()) == 2
    batches.close()
    assert own_children() == []


def test_an_exit_amid_batches_does_not_wait(tmp_path: Path) -> None:
    """Oracle: that the program ends; multiprocessing would wait for its deaf workers for ever."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(Path.cwd())!r}, {str(Path(__file__).parent)!r}]\n"
        "from test_workers import Numbers, evaluation_batches, hang\n"
        "batches = evaluation_batches(Numbers(50, {4: hang}), workers=2)\n"
        "print(next(batches)['name'])\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['0']\n", "")


def test_signals_to_the_group_end_no_worker() -> None:
    """Oracle: all batches of a process that only counts the signals, sent while its workers start and work."""
    import cv2  # before the forks: each of them would read it from disk

    assert cv2.getNumThreads() > 0

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def body() -> None:
        heard = []
        for number in numbers:
            signal.signal(number, lambda number, _: heard.append(number))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        while len(heard) < 60:
            names = [batch["name"] for batch in evaluation_batches(Numbers(20), workers=2, timeout=60)]
            assert names == [[str(index)] for index in range(20)]
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # until the child has its handlers
    process, reading = in_a_fork(body)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sent = 0
    while (ended := os.waitpid(process, os.WNOHANG)) == (0, 0) and sent < 5000:
        os.killpg(process, numbers[sent % 3])
        sent += 1
        time.sleep(0.01)
    wait_for_the_end_of_all(reading)
    assert ended == (process, 0)
    assert sent >= 60


def test_no_worker_survives_the_death_of_its_parent() -> None:
    """Oracle: a pipe that all of them hold. One worker hangs, so that torch's own look at the parent never comes."""

    def body() -> None:
        for _ in evaluation_batches(Numbers(50, {4: hang}), workers=2):
            os.write(2, b"")
        hang()

    process, reading = in_a_fork(body)
    time.sleep(1)  # the workers begin
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    wait_for_the_end_of_all(reading)


def test_workers_ignore_signals_and_keep_to_one_thread() -> None:
    """Oracle: what a worker itself sees. The signals are blocked from its birth and ignored by the time it reads."""
    import cv2
    import torch

    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}

    def state() -> None:
        ignored = all(signal.getsignal(number) == signal.SIG_IGN for number in signals)
        blocked = signals <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
        raise DataError(f"{ignored} {blocked} {cv2.getNumThreads()} {torch.get_num_threads()}")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(DataError, match=r"^True True 1 1$"):
        list(evaluation_batches(Numbers(1, {0: state}), workers=1))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


def test_workers_also_serve_a_thread() -> None:
    """Oracle: the names; only the main thread may set signal handlers."""
    names: list[str] = []

    def read() -> None:
        names.extend(name for batch in evaluation_batches(Numbers(5), workers=1) for name in batch["name"])

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert names == ["0", "1", "2", "3", "4"]
