"""Images decoded by threads, ahead of whoever asks for them."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ccnet.data.sample import read_image
from ccnet.errors import DataError
from ccnet.prediction.inputs import Input
from ccnet.visualize import Rgb

FileState = tuple[int, int]  # size in bytes, time of change in ns


@dataclass(frozen=True)
class Decoded:
    """An input with its pixels (H, W, 3), and the state of its file before it was read."""

    item: Input
    image: Rgb
    state: FileState | None


@dataclass(frozen=True)
class Unreadable:
    """An input without pixels, and why."""

    item: Input
    reason: str


def decoded(items: Iterable[Input], threads: int, ahead: int) -> Generator[Decoded | Unreadable, None, None]:
    """The inputs in their order, at most `ahead` of them decoded before they are asked for.

    Closing the iterator ends the threads.
    """
    waiting: deque[Future[Decoded | Unreadable]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
    try:
        for item in items:
            waiting.append(pool.submit(_decode, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def file_state(item: Input) -> FileState | None:
    """None where there is no file."""
    try:
        status = item.path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in a list's path
        return None
    return status.st_size, status.st_mtime_ns


def _decode(item: Input) -> Decoded | Unreadable:
    state = file_state(item)
    try:
        return Decoded(item, read_image(item.path), state)
    except DataError as error:
        return Unreadable(item, str(error))
    except Exception as error:  # an image that is too large for the memory, or a name that no file can have
        return Unreadable(item, f"{item.path} cannot be read ({type(error).__name__}: {error})")
