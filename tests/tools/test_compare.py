"""The comparison through its command line."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccnet.config import compose_config, to_yaml
from tests.comparison.made_reports import made_images, write_report, write_run

TOOL = Path(__file__).resolve().parents[2] / "tools" / "compare.py"
Result = tuple[int, list[str], str]
Compare = Callable[..., Result]


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    """Runs the tool's file in an empty folder, without a new process: exit status, lines on stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", [str(TOOL), *words])
        status = 0
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as end:
            status = int(end.code or 0)
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err

    return run


def test_two_runs(compare: Compare, tmp_path: Path) -> None:
    """Oracle: the verdict on models of 80 and 90 %, on a model and its copy, and what the file says."""
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "b", 0.9, seed=1)
    status, lines, errors = compare("a", "b", "--json", "out.json")
    assert (status, errors) == (0, "")
    assert lines[-1].startswith("mIoU B - A: +")
    assert lines[-1].endswith("], distinguishable from zero (95 % paired bootstrap over 12 images)")
    assert json.loads((tmp_path / "out.json").read_text())["distinguishable"] is True
    assert compare("b", "a")[1][-1].startswith("mIoU B - A: -")
    same = "mIoU B - A: +0.00 [0.00, 0.00], not distinguishable from zero (95 % paired bootstrap over 12 images)"
    write_run(tmp_path / "copy", 0.8)
    assert compare("a", "copy")[1][-1] == same


def test_a_named_report(compare: Compare, tmp_path: Path) -> None:
    """Oracle: the reports of that name are compared, which differ although those of the end of training do not."""
    for name, share in (("a", 0.8), ("b", 0.9)):
        write_report(write_run(tmp_path / name, 0.7) / "report" / "flip", made_images(share))
    assert ", not distinguishable" in compare("a", "b")[1][-1]
    assert ", distinguishable" in compare("a", "b", "--report", "flip")[1][-1]


def test_seeds(compare: Compare, tmp_path: Path) -> None:
    """Oracle: the last lines for one group and for two."""
    config = to_yaml(compose_config())
    for letter, share in (("a", 0.8), ("b", 0.9)):
        for seed in range(3):
            text = config.replace("seed: 0\n", f"seed: {seed}\n", 1)
            write_run(tmp_path / f"{letter}{seed}", share, seed, text)
    status, lines, errors = compare("a0", "a1", "--against", "b0", "b1", "b2")
    assert (status, errors) == (0, "")
    assert lines[-1].endswith("], distinguishable from zero (95 % Welch interval, 2 and 3 seeds)")
    status, lines, errors = compare("--seeds", "a0", "a1")
    assert (status, errors) == (0, "")
    assert lines[-1].startswith("mIoU ")
    assert ", standard deviation " in lines[-1]
    assert lines[-1].endswith("] (95 % Student's t over 2 seeds)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "name two runs; --seeds takes runs that differ by their seed only"),
        (["a", "a", "a"], "name two runs; --seeds takes runs that differ by their seed only"),
        (["a", "gone"], "gone: no such run or report folder"),
        (["a", "empty"], "run: python tools/val.py --checkpoint"),
        (["--seeds", "a"], "alone is no group of seeds"),
        (["a", "--against", "b"], "alone is no group of seeds"),
        (["a", "b", "--seeds"], "lies in no run, whose config.yaml would tell its seed"),
        (["a", "other"], "12 and 5 images"),
        (["a", "b", "--json", "gone/out.json"], "there is no folder gone"),
        (["a", "b", "--json", "."], "is a folder; name a file"),
        (["a", "b", "--json", ""], "is a folder; name a file"),
        (["a", "b", "--json", "empty"], "is a folder; name a file"),
        (["a", "a/report"], "is named twice"),
        (["a", "b", "--against", "b", "a"], "is named twice"),
        (["a", "b", "--agianst", "c", "d"], "unknown option --agianst; did you mean --against?"),
        (["a", "b", "--seed"], "unknown option --seed; did you mean --seeds?"),
        (["a", "b", "--json"], "argument --json: expected one argument"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, compare: Compare, tmp_path: Path) -> None:
    """Oracle: the message, status 2, nothing on stdout, nothing left behind."""
    write_run(tmp_path / "a", 0.8)
    write_run(tmp_path / "b", 0.9)
    write_report(tmp_path / "other" / "report", made_images(0.8, count=5))
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    status, lines, errors = compare(*words)
    assert (status, lines) == (2, [])
    assert sorted(tmp_path.rglob("*")) == before
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1
    assert message in errors


def test_groups_take_one_form(compare: Compare) -> None:
    """Oracle: argparse refuses both options together."""
    status, _, errors = compare("a", "b", "--seeds", "--against", "c")
    assert status == 2
    assert "not allowed with argument" in errors
