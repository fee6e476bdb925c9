"""Mistakes that one clear line explains: what is wrong, in which file or key, and what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake of the caller. Tools print its message without a traceback and exit with status 2."""


class ConfigError(UserError):
    """A key or value of the configuration is wrong."""


class DataError(UserError):
    """A data set, an image or a mask is not what it has to be."""


class CheckpointError(UserError):
    """A checkpoint or weight file is missing, damaged, or made for another model."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns a `UserError` into one line on stderr and exit status 2; every other exception keeps its traceback."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
