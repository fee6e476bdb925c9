"""Symbolic links, where the system has them."""

from pathlib import Path

import pytest


def link(path: Path, folder: Path) -> None:
    """Makes a link to a folder, which is made as well; skips the test where there are no links."""
    folder.mkdir(exist_ok=True)
    link_to(path, folder)


def link_to(path: Path, target: Path) -> None:
    """Makes a link; skips the test where there are none."""
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("no links here")
