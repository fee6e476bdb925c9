"""Images and masks that meet by name."""

from pathlib import Path

import pytest

from ccnet.data.pairing import paired
from ccnet.errors import DataError


def test_lonely_files_are_counted_and_listed(tmp_path: Path) -> None:
    """Oracle: the names left out on purpose."""
    images = {name: tmp_path / f"{name}.jpg" for name in ("a", "b", "c")}
    masks = {name: tmp_path / f"{name}.png" for name in ("b", "c", "d")}
    with pytest.raises(DataError, match=r"2 files without a partner: .*a.jpg has no mask; .*d.png has no image"):
        paired(images, masks, tmp_path)
    with pytest.raises(DataError, match="holds no images"):
        paired({}, {}, tmp_path)
