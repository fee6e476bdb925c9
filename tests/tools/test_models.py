"""The command line of the table of models."""

import json
from pathlib import Path

import pytest

from tools import models


def test_the_rows_go_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the parts that the patterns name, at two sizes: four times the pixels, four times the operations."""
    operations = []
    for size in ("64,64", "128,128"):
        words = ["--size", size, "--backbone", "patch*", "--head", "fc?", "--json", str(tmp_path / "rows.json")]
        monkeypatch.setattr("sys.argv", ["models.py", *words])
        models.main()
        (row,) = json.loads((tmp_path / "rows.json").read_text())
        assert (row["backbone"], row["head"]) == ("patches", "fcn")
        operations.append(row["operations"])
    assert operations[1] == 4 * operations[0]
    assert "two per multiply-add" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--size", "64"], "invalid size value"), (["--size", "0,64"], "invalid size value"),
     (["--json", "gone/rows.json"], "there is no folder gone"), (["--json", "."], "--json . is a folder; name a file"),
     (["--jso", "rows.json"], "unrecognized arguments: --jso"), (["--head", "x"], "no head matches x; there are fcn")],
)  # fmt: skip
def test_mistakes_are_told(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: the message, before anything is built, and no usage around it."""
    monkeypatch.setattr("ccnet.model_table.model_rows", lambda *_: pytest.fail("something was built"))
    monkeypatch.setattr("sys.argv", ["models.py", *words])
    with pytest.raises((SystemExit, ValueError)) as raised:
        models.main()
    printed = capsys.readouterr().err
    assert message in printed + str(raised.value)
    assert printed.count("\n") <= 1
