"""What a tool prints and how it exits when it cannot go on."""

import subprocess
import sys
from pathlib import Path

import pytest

from ccnet.errors import ConfigError, RunStoppedError, one_line_errors

ROOT = Path(__file__).resolve().parents[1]


def test_a_mistake_and_a_stopped_run_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the documented lines and statuses; within another one, too, as in tools/train.py."""
    for error, line, status in (
        (ConfigError("no such key"), "error: no such key", 2),
        (RunStoppedError("stopped by SIGTERM", 75), "stopped by SIGTERM", 75),
        (ConfigError("class \x1b[2J\nroad"), "error: class ?[2J?road", 2),  # a stranger's words steer no terminal
    ):
        with pytest.raises(SystemExit) as end, one_line_errors(), one_line_errors():
            raise error
        assert end.value.code == status
        assert capsys.readouterr().err == f"{line}\n"


def test_ctrl_c_is_one_line() -> None:
    """Oracle: the signal itself, in a process of its own, and 128 + 2, which a shell takes for it."""
    program = (
        "import signal\n"
        "from ccnet.errors import one_line_errors\n"
        "with one_line_errors(), one_line_errors():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr, ended.stdout) == (130, "interrupted\n", "")


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    """Oracle: the very exception."""
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
