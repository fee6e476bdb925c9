"""Worker processes that no signal to the process group ends, and that always end with the run."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from ccnet.errors import DataError

Number = TypeVar("Number")

# A signal to the process group must leave the main process its workers until it has saved.
IGNORED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
GRACE = 3.0  # seconds that workers have to end by themselves; torch would wait 10 for each that hangs


def start_worker(_worker: int) -> None:
    """What a worker does first: it ignores signals, ends with its parent, and keeps to one thread, as torch does.

    Torch's own look at the parent, every five seconds, is of no use to a worker that hangs in a sample.
    """
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2

    cv2.setNumThreads(0)  # workers share the cores with the model


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def from_workers(
    loader: DataLoader[Any], wanted: Iterable[Number], timeout: float, files: Callable[[Number], str]
) -> Iterator[Any]:
    """What a loader with workers gives; they have ended when this iterator has, however it ends.

    Args:
        loader: its workers must begin with `start_worker`.
        wanted: what each item is made of, in order.
        timeout: seconds to wait for an item.
        files: names what an item is made of, for messages.

    Raises:
        DataError: a worker died, or none gave anything in time.
    """
    iterator, workers = _start(loader)
    kill = partial(_kill, workers)
    # multiprocessing's own handler, which runs after this one, would wait for workers that ignore SIGTERM for ever.
    atexit.register(kill)
    try:
        for number in wanted:
            fault = None
            try:
                with _after(timeout, kill) as overdue:
                    item = next(iterator)
            except (RuntimeError, OSError, EOFError):
                fault = _fault(workers, timeout if overdue() else None, files(number))
                if fault is None:
                    raise
            if fault:  # outside of `except`, so that the traceback keeps nothing of torch's iterator alive
                raise DataError(fault)
            yield item
            del item
    finally:
        if not sys.is_finalizing():  # by then they are dead, and no thread starts any more
            with _after(GRACE, kill):
                del iterator  # torch asks its workers to end and waits for them
            kill()
            for worker in workers:
                worker.join(GRACE)
            atexit.unregister(kill)


def _start(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[BaseProcess]]:
    others = set(multiprocessing.active_children())
    with _signals_blocked(), _child_handler_kept():
        iterator = iter(loader)
    return iterator, [child for child in multiprocessing.active_children() if child not in others]


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started here are born with the ignored signals blocked: `start_worker` may come too late for one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        if multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # which unblocks some of them, once
            signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _child_handler_kept() -> Iterator[None]:
    """Takes back torch's handler of SIGCHLD, which raises wherever the main process is, even halfway through a step.

    Without it torch looks after its workers every five seconds while it waits for them, as on Windows.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, handler)


@contextmanager
def _after(seconds: float, action: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Does something when the body takes longer; what is given says whether it came to that."""
    late = threading.Event()

    def act() -> None:
        late.set()
        action()

    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield late.is_set
    finally:
        timer.cancel()


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


def _fault(workers: Sequence[BaseProcess], timeout: float | None, files: str) -> str | None:
    """One line about workers that did not do their work, None where all of them live."""
    if timeout is not None:
        return (
            f"a data worker gave nothing for {timeout:g} s; raise trainer.worker_timeout, "
            f"set trainer.workers=0 to see where it stops, or look at what it was to read: {files}"
        )
    # A worker's pipes and sockets close a moment before it counts as dead.
    ended = connection.wait([worker.sentinel for worker in workers], timeout=1.0)
    if not ended:
        return None
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(GRACE)
    codes = {worker.exitcode for worker in workers if worker.exitcode is not None}
    ends = ", ".join(sorted(signal.Signals(-code).name if code < 0 else f"exit status {code}" for code in codes))
    return (
        f"a data worker died ({ends}); most often memory or shared memory ran out: lower trainer.workers, or give a "
        f"container more with --shm-size; a file that ends its reader would be one of these or of the next: {files}"
    )
