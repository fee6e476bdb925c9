"""Signals that ask a run to stop. The handler takes note, no more: the loop looks at it between two steps."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, Self

from ccnet import distributed

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
EXIT_STATUS: Mapping[str, int] = {"SIGTERM": REQUEUE, "SIGUSR1": REQUEUE, "SIGINT": 130}


ECHO_SECONDS = 1.0  # torchrun passes on what a batch system has sent to every process already


class StopSignals:
    """Waits for SIGTERM, SIGUSR1 and SIGINT while it is open as a context manager. A second one, a moment later, ends
    the process at once, with what the last checkpoint holds."""

    def __init__(self) -> None:
        self.received, self.since = 0, 0.0
        self.handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            for name in EXIT_STATUS:
                if number := getattr(signal, name, None):  # Windows has no SIGUSR1
                    self.handlers[number] = signal.signal(number, self._take_note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether one came to this rank."""
        return self.received > 0

    def agreed(self) -> str | None:
        """The name of one that came to any rank; asked by all ranks together."""
        received = distributed.largest_over_ranks(self.received)
        return signal.Signals(received).name if received else None

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received, self.since = number, time.monotonic()
        elif time.monotonic() - self.since > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
