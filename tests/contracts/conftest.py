"""Every YAML of a group, with the default's other parts around it."""

import copy
from collections.abc import Collection
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ccnet.config import compose_config
from ccnet.config_errors import CONFIG_DIR


def names(group: str, long: Collection[str] = ()) -> list[Any]:
    """The choices of a group; those that take long, by glob patterns, are marked."""
    stems = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    is_long = {stem: any(fnmatch(stem, pattern) for pattern in long) for stem in stems}
    return [pytest.param(stem, marks=pytest.mark.long if is_long[stem] else ()) for stem in stems]


def part(group: str, name: str, *overrides: str) -> dict[str, Any]:
    """The composed node of one choice."""
    return copy.deepcopy(_composed(group, name, *overrides))


@cache  # composing takes a tenth of a second
def _composed(group: str, name: str, *overrides: str) -> dict[str, Any]:
    node: dict[str, Any] = getattr(compose_config([f"{group}={name}", *overrides]), group)
    return node


def data_root(path: Path) -> str:
    """As an override."""
    return f"dataset.root={path}"
