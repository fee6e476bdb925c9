"""The table and the file of a benchmark."""

import json
from pathlib import Path

import pytest

from ccnet.benchmarks.measure import Measured, Row
from ccnet.benchmarks.table import LEGEND, print_table, readable, write_json

ROWS = [
    Row("demo", "small", "ours", "theirs", "time", Measured(0.02, 0.001, 9), Measured(0.05, 0.0, 9)),
    Row("demo", "small", "slow", "theirs", "time (peer)", Measured(2.5), Measured(0.05, 0.0, 9)),
    Row("demo", "large", "ours", "theirs", "memory", Measured(3 * 2**20), Measured(2**30)),
]


def test_rows_are_printed_under_a_heading_per_case_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the lines, written out; a row is on the screen before the next is measured."""
    screens = []

    def measured_one_by_one() -> object:
        for row in ROWS:
            yield row
            screens.append(capsys.readouterr().out)

    assert print_table(measured_one_by_one()) == ROWS
    assert screens[0].startswith(LEGEND)
    lines = [" ".join(line.split()) for screen in screens for line in screen.removeprefix(LEGEND).splitlines() if line]
    header = "variant metric value ± baseline ± ratio"
    assert lines == [
        "small: against theirs",
        header,
        "ours time 20 ms 5 % 50 ms 0 % 2.50x",
        "slow time (peer) 2.5 s (1x) 50 ms 0 % 0.02x",
        "large: against theirs",
        header,
        "ours memory 3 MiB 1 GiB 341.33x",
    ]
    heading = next(line for line in screens[0].splitlines() if "variant" in line)
    assert [len(screen.splitlines()[-1]) for screen in screens] == [len(heading)] * 3


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("time", 0.0000025, "2.5 us (1x)"),
        ("wall", 1.0, "1 s (1x)"),
        ("saved (peer)", 1536.0, "1.5 KiB"),
        ("memory", 1023 * 2**20, "1023 MiB"),
        ("flops", 108.2e9, "108 G"),
    ],
)
def test_values_have_the_unit_that_suits_them(metric: str, value: float, words: str) -> None:
    """Oracle: by hand."""
    assert readable(metric, Measured(value)).split() == words.split()


def test_the_file_holds_the_rows_and_replaces_an_older_one(tmp_path: Path) -> None:
    """Oracle: the schema, written out; nothing else lies in the folder afterwards."""
    path = tmp_path / "rows.json"
    path.write_text("older")
    write_json(path, ROWS[:1])
    assert json.loads(path.read_text()) == [
        {
            "benchmark": "demo",
            "case": "small",
            "variant": "ours",
            "baseline": "theirs",
            "metric": "time",
            "value": 0.02,
            "baseline_value": 0.05,
            "ratio": 2.5,
        }
    ]
    assert list(tmp_path.iterdir()) == [path]
    write_json(path, [])
    assert json.loads(path.read_text()) == []
