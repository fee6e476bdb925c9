"""Every YAML of a group, with the default's other parts around it."""

from pathlib import Path
from typing import Any

import pytest

from ccnet.config import compose_config
from ccnet.config_errors import CONFIG_DIR


def names(group: str, long: tuple[str, ...] = ()) -> list[Any]:
    """The choices of a group; those that take long are marked."""
    stems = sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
    return [pytest.param(stem, marks=pytest.mark.long if stem in long else ()) for stem in stems]


def part(group: str, name: str, *overrides: str) -> dict[str, Any]:
    """The composed node of one choice."""
    node: dict[str, Any] = getattr(compose_config([f"{group}={name}", *overrides]), group)
    return node


def data_root(path: Path) -> str:
    """As an override."""
    return f"dataset.root={path}"
