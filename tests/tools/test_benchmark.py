"""The command line of the benchmarks."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccnet.benchmarks.measure import Measured, Row
from tools import benchmark

ROOT = Path(__file__).resolve().parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The tool as a user calls it, where importing PyTorch fails: what it answers at once must not need it."""
    lines = ["import sys, runpy", "sys.modules['torch'] = None", "del sys.argv[0]"]
    code = "; ".join([*lines, "runpy.run_path(sys.argv[0], run_name='__main__')"])
    command = [sys.executable, "-c", code, str(ROOT / "tools" / "benchmark.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_help_lists_the_benchmarks_without_importing_them() -> None:
    """Oracle: the name and what `rows` says of itself."""
    done = run("--help")
    assert done.returncode == 0, done.stderr
    assert "attention             Criss-cross attention: " in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["atention"], "error: no benchmark atention; did you mean attention?"),
        (["attention", "--js", "x.json"], "error: unrecognized arguments: --js x.json; --help lists the options"),
        (["attention", "--json", "gone/rows.json"], "error: --json gone/rows.json: there is no folder gone"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    """Oracle: the message and exit status 2, as of the other tools, before anything is measured."""
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [message]
    assert done.stdout == ""


@pytest.mark.parametrize("quick", [True, False])
def test_rows_are_printed_and_written(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the row that the benchmark yields, which depends on --quick."""

    def rows(quick: bool) -> Iterator[Row]:
        yield Row("tiny", "case", "ours", "theirs", "time", Measured(1.0 if quick else 2.0), Measured(4.0))

    path = tmp_path / "rows.json"
    monkeypatch.setattr(benchmark, "load", {"tiny": rows}.__getitem__)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "tiny", "--json", str(path), *(["--quick"] if quick else [])])
    benchmark.main()
    ratio = 4.0 if quick else 2.0
    assert f"{ratio:.2f}x" in capsys.readouterr().out
    (row,) = json.loads(path.read_text())
    assert list(row) == ["benchmark", "case", "variant", "baseline", "metric", "value", "baseline_value", "ratio"]
    assert row["ratio"] == ratio
