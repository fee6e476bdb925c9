"""Mistakes that one clear line explains: what is wrong, in which file or key, and what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake of the caller. Tools print its message without a traceback and exit with status 2."""


class RunStoppedError(Exception):
    """A signal stopped the run, which has saved what it did. Tools print the message and exit with `exit_status`."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ConfigError(UserError):
    """A key or value of the configuration is wrong."""


class DataError(UserError):
    """A data set, an image or a mask is not what it has to be."""


class CheckpointError(UserError):
    """A checkpoint or weight file is missing, damaged, or made for another model."""


def printable(text: str) -> str:
    """One line without what would steer the terminal: parts of it may come from a stranger's file."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns a `UserError` into one line on stderr and exit status 2, and a run that a signal stopped into its line and
    status; Ctrl-C becomes "interrupted" and status 130. Every other exception keeps its traceback."""
    try:
        yield
    except RunStoppedError as stop:
        print(printable(str(stop)), file=sys.stderr)
        sys.exit(stop.exit_status)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
