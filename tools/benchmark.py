"""Measures: python tools/benchmark.py NAME [--quick] [--json FILE]."""

import argparse
import os
from pathlib import Path

from ccnet.benchmarks.catalog import available, load
from ccnet.command_line import OneLineParser
from ccnet.errors import one_line_errors
from ccnet.json_file import require_place


def parser() -> OneLineParser:
    """The command line, with the benchmarks there are."""
    names = "\n".join(f"  {name:<22}{line}" for name, line in available().items())
    made = OneLineParser(
        description=__doc__,
        epilog=f"benchmarks:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("name", metavar="NAME", help="a benchmark, of the list below")
    made.add_argument("--quick", action="store_true", help="fewer cases and rounds: within a minute on two cores")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    return made


def main() -> None:
    """Prints the table as it grows, and writes the rows."""
    arguments = parser().parse_args()
    if arguments.json:
        require_place(arguments.json)
    rows = load(arguments.name)

    from ccnet.benchmarks.table import print_table, write_json  # here, so that --help answers at once

    printed = print_table(rows(arguments.quick))
    if arguments.json:
        write_json(arguments.json, printed)


if __name__ == "__main__":
    # A thread that waits for others sleeps: spinning would count as processor time, most of it where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with one_line_errors():
        main()
