"""Pillow without its warnings about metadata, in any number of threads."""

import warnings
from threading import Lock
from types import TracebackType


class QuietReading:
    """A context in which Pillow's warnings are not heard.

    `warnings.catch_warnings` alone is not for threads: the filters are the process's own, and each thread would put
    back what it found. Here the first reader sets them, and the last one puts them back.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.readers = 0
        self.filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if self.readers == 0:
                self.filters = warnings.catch_warnings()  # each is good for one use
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.readers += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self.readers -= 1
            if self.readers == 0:
                self.filters.__exit__(kind, error, trace)


quiet_reading = QuietReading()  # one for all threads
