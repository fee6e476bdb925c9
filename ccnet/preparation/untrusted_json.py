"""JSON that came with somebody's data: read with limits, and asked for values of a certain kind."""

import json
from pathlib import Path
from typing import Any, TypeVar

from ccnet.errors import DataError

MOST_BYTES = 1 << 30

Value = TypeVar("Value")


def read_json(path: Path) -> dict[str, Any]:
    """An object out of a file.

    Raises:
        DataError: no such file, more than a gigabyte, no JSON, or no object.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path} is larger than {MOST_BYTES >> 20} MB; divide it")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}; expected an object of annotations")
    return content


def value_of(entry: Any, key: str, kind: type[Value], where: str) -> Value:
    """An object's value under a key.

    Raises:
        DataError: it is missing, or of another kind.
    """
    if not isinstance(entry, dict):
        raise DataError(f"{where}: {str(entry)[:40]} must be an object with '{key}'")
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{where}: '{key}' must be a {kind.__name__}, not {str(value)[:40]}")
    return value
