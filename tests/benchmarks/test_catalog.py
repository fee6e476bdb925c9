"""Which benchmarks are found."""

from pathlib import Path

import pytest

from ccnet.benchmarks.catalog import available, load
from ccnet.errors import UserError


def test_a_module_with_rows_is_a_benchmark(tmp_path: Path) -> None:
    """Oracle: three files, of which one defines `rows`; importing any of them would fail."""
    (tmp_path / "speed.py").write_text('import nowhere\n\n\ndef rows(quick):\n    """How fast.\n\n    And so on."""\n')
    (tmp_path / "harness.py").write_text("import nowhere\n\n\ndef row(quick): ...\n")
    (tmp_path / "inner.py").write_text("class Harness:\n    def rows(self): ...\n")
    assert available(tmp_path) == {"speed": "How fast."}


def test_every_benchmark_says_what_it_measures_and_loads() -> None:
    """Oracle: the docstring's first line is a sentence; the function is that of the module."""
    assert "attention" in available()
    for name, line in available().items():
        assert line.endswith("."), name
        assert load(name).__module__ == f"ccnet.benchmarks.{name}"


@pytest.mark.parametrize(
    ("name", "message"), [("atention", "no benchmark atention; did you mean attention?"), ("x", "there are: attention")]
)
def test_a_mistyped_name(name: str, message: str) -> None:
    """Oracle: the message, written out."""
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        load(name)
