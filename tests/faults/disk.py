"""The calls by which Python changes a folder: told one by one, before they happen."""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

Listener = Callable[[str, Path], None]


@contextmanager
def watched(folder: Path, paths: str, listen: Listener) -> Iterator[None]:
    """Calls `listen(what, path)` before each mkdir, open for writing, write, fsync, rename, unlink and rmdir, whoever
    asks for it, and in the middle of each write. What it raises, the call raises.

    Args:
        folder: outside of it nothing is told.
        paths: a regular expression over paths relative to the folder.
        listen: is given the name of the call and that path.
    """

    def is_told(path: Path) -> bool:
        return path.is_relative_to(folder) and re.fullmatch(paths, str(path.relative_to(folder))) is not None

    def tell(what: str, path: Path) -> None:
        if is_told(path):
            listen(what, path.relative_to(folder))

    changed: dict[str, Callable[..., Any]] = {name: _by_path(name, tell) for name in ("mkdir", "unlink", "rmdir")}
    changed |= {name: _move(name, tell) for name in ("rename", "replace")}
    changed["fsync"] = _by_descriptor(os.fsync, tell)
    with ExitStack() as stack:
        for name, function in changed.items():
            stack.enter_context(mock.patch.object(os, name, function))
        stack.enter_context(mock.patch.object(io, "open", _open(io.open, is_told, tell)))
        yield


def _by_path(name: str, tell: Listener) -> Callable[..., Any]:
    original = getattr(os, name)

    def call(path: Any, *arguments: Any, dir_fd: int | None = None) -> Any:
        tell(name, Path(Path.cwd() if dir_fd is None else _path_of(dir_fd), path))  # shutil.rmtree has descriptors
        return original(path, *arguments, dir_fd=dir_fd)

    return call


def _move(name: str, tell: Listener) -> Callable[..., Any]:
    original = getattr(os, name)

    def call(source: Any, target: Any) -> Any:
        tell("rename", Path(target).absolute())
        return original(source, target)

    return call


def _by_descriptor(original: Callable[[int], None], tell: Listener) -> Callable[[int], None]:
    def call(descriptor: int) -> None:
        tell("fsync", _path_of(descriptor))
        original(descriptor)

    return call


def _open(original: Callable[..., Any], is_told: Callable[[Path], bool], tell: Listener) -> Callable[..., Any]:
    def call(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = None if isinstance(path, int) else Path(os.fsdecode(path)).absolute()
        if file is None or not set(mode) & set("wxa") or not is_told(file):
            return original(path, mode, *arguments, **options)
        tell("open", file)
        return _Written(original(path, mode, *arguments, **options), file, tell)

    return call


class _Written:
    """A file that tells of its writes, each of which happens in two halves."""

    def __init__(self, file: Any, path: Path, tell: Listener) -> None:
        self.file, self.path, self.tell = file, path, tell

    def write(self, data: Any) -> int:
        for what, part in (("write", data[: len(data) // 2]), ("write on", data[len(data) // 2 :])):
            self.tell(what, self.path)
            self.file.write(part)
            self.file.flush()
        return len(data)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
