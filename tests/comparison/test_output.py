"""What is said of a comparison, word by word."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet.comparison.compare import Comparison, Side
from ccnet.comparison.output import print_comparison, summary, write_json
from ccnet.comparison.run_report import RunReport
from ccnet.errors import UserError
from ccnet.evaluation.bootstrap import Interval, Intervals
from tests.comparison.made_reports import CLASSES, made_images
from tests.evaluation.links import link_to

ABSENT = Interval(math.nan, reason="not there")
A = Side(
    [RunReport(Path("a"), "c0", {}, "[]", made_images(0.8), CLASSES)], Intervals(Interval(0.6, 0.5, 0.7), [ABSENT] * 2)
)
B = replace(A, scores=Intervals(Interval(0.61234, 0.51, 0.71), [Interval(0.61234, 0.5, 0.7), ABSENT]))
DIFFERENCE = Intervals(Interval(0.01234, 0.003, 0.021), [Interval(-0.01, -0.02, 0.0), ABSENT])
PAIR = Comparison([A, B], DIFFERENCE, "paired bootstrap over 12 images", ["mind this"])
GROUP = Comparison([replace(A, seeds=[7], deviation=0.0123)], None, "Student's t over 3 seeds", [])


def rows(lines: list[str]) -> dict[str, list[str]]:
    """The cells of a printed table, by the first of each row."""
    cells = [line.replace("│", "|").replace("┃", "|").split("|") for line in lines]
    return {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in cells if len(row) > 2}


def test_the_last_line() -> None:
    """Oracle: the lines written out: a difference that can be told from zero, one that cannot, one without an interval,
    and a group."""
    told = "(95 % paired bootstrap over 12 images)"
    assert summary(PAIR) == f"mIoU B - A: +1.23 [0.30, 2.10], distinguishable from zero {told}"
    for interval, line in {
        Interval(-0.02, -0.05, 0.01): "-2.00 [-5.00, 1.00], not distinguishable from zero",
        Interval(0.5, reason="one image only"): "+50.00, no interval: one image only",
        ABSENT: "-, no interval: not there",
    }.items():
        comparison = replace(PAIR, difference=Intervals(interval, []))
        assert summary(comparison) == f"mIoU B - A: {line} {told}"
    line = "mIoU 60.00, standard deviation 1.23, [50.00, 70.00] (95 % Student's t over 3 seeds)"
    assert summary(GROUP) == line


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the cells of each row, the warning, and the summary as the last line."""
    print_comparison(PAIR)
    lines = capsys.readouterr().out.splitlines()
    assert rows(lines) == {
        "class": ["IoU A", "IoU B", "B - A", "95 %", ""],
        "road": ["-", "61.23", "-1.00", "[-2.00, 0.00]", ""],
        "sky": ["-", "-", "-", "not there", ""],
        "mIoU": ["60.00", "61.23", "+1.23", "[0.30, 2.10]", "*"],
    }
    assert lines[0] == "A a: mIoU 60.00 [50.00, 70.00]"
    assert "warning: mind this" in lines
    assert lines[-1] == summary(PAIR)


def test_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: a line per run, mean and deviation, and the cells of a table of one side."""
    print_comparison(GROUP)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("A a: seed 7, mIoU ")
    assert lines[1] == "A mIoU 60.00, standard deviation 1.23, [50.00, 70.00]"
    assert rows(lines) == {
        "class": ["IoU", "95 %"],
        "road": ["-", "not there"],
        "sky": ["-", "not there"],
        "mIoU": ["60.00", "[50.00, 70.00]"],
    }
    assert lines[-1] == summary(GROUP)


def test_a_group_without_any_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the line written out, null in the file: nothing there is no deviation of 0."""
    side = replace(A, seeds=[7], deviation=None, scores=Intervals(ABSENT, [ABSENT] * 2))
    group = replace(GROUP, sides=[side])
    assert summary(group) == "mIoU -, standard deviation -, not there (95 % Student's t over 3 seeds)"
    print_comparison(group)
    assert "0.00" not in capsys.readouterr().out
    write_json(tmp_path / "out.json", group)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["A"]["standard_deviation"] is None


def test_names_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: no escape in what is printed."""
    reports = [replace(A.reports[0], path=Path("\x1b[31mrun"), class_names=["\x1b]0;title\x07", "sky[/red]"])]
    print_comparison(replace(PAIR, sides=[replace(A, reports=reports), B]))
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "sky[/red]" in printed


def test_json(tmp_path: Path) -> None:
    """Oracle: every number as it is, what is not there as null, in strict JSON."""
    write_json(tmp_path / "out.json", PAIR)
    text = (tmp_path / "out.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["difference"]["mIoU"] == {"value": 0.01234, "low": 0.003, "high": 0.021}
    assert found["difference"]["classes"]["sky"] == {"value": None, "low": None, "high": None, "reason": "not there"}
    assert found["B"]["classes"]["road"]["value"] == 0.61234
    (run,) = found["A"]["runs"]
    assert run == {"report": "a", "seed": None, "checkpoint": "c0", "mIoU": A.reports[0].mean_iou}
    assert (found["distinguishable"], found["images"], found["warnings"]) == (True, 12, ["mind this"])
    write_json(tmp_path / "out.json", GROUP)
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["A"]["standard_deviation"] == 0.0123
    assert found["A"]["runs"][0]["seed"] == 7
    assert not found.keys() & {"B", "difference", "distinguishable"}


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    """Oracle: the line; nothing is left where a folder has the name."""
    for path in (Path(), Path(".."), tmp_path):
        with pytest.raises(UserError, match="is a folder; name a file"):
            write_json(path, PAIR)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"out\.json: there is no folder"):
        write_json(tmp_path / "gone" / "out.json", PAIR)


def test_json_follows_no_link(tmp_path: Path) -> None:
    """Oracle: the bytes of the file that links under both names lead to."""
    (tmp_path / "precious").write_bytes(b"mine")
    for name in ("out.json", ".out.json.part"):
        link_to(tmp_path / name, tmp_path / "precious")
    write_json(tmp_path / "out.json", PAIR)
    assert (tmp_path / "precious").read_bytes() == b"mine"
