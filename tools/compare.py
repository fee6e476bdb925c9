"""Compares what evaluations found, and says whether the difference can be told from chance.

python tools/compare.py RUN_A RUN_B                          two models on the same images: paired bootstrap
python tools/compare.py A1 A2 A3 --against B1 B2 B3          seeds of two configurations: Welch's interval
python tools/compare.py --seeds A1 A2 A3                     seeds of one configuration: mean, deviation, interval

A RUN is a run folder, of which the report at the end of training is taken (or report/NAME with --report NAME), or a
report folder that tools/val.py wrote.
"""

import argparse
from pathlib import Path

from ccnet.command_line import OneLineParser
from ccnet.errors import ConfigError, one_line_errors


def parser() -> OneLineParser:
    """The command line."""
    made = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    made.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="A and B; or all of A, with --against or --seeds"
    )
    groups = made.add_mutually_exclusive_group()
    groups.add_argument("--against", nargs="+", type=Path, metavar="RUN", help="B: runs that differ by their seed only")
    groups.add_argument("--seeds", action="store_true", help="the runs differ by their seed only")
    made.add_argument("--report", metavar="NAME", help="the folder below report/ of each run, such as step_0000680_val")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    return made


def main() -> None:
    """Reads the reports, compares, prints."""
    made = parser()
    arguments, unknown = made.parse_known_args()
    if unknown:
        made.error(f"unknown option {unknown[0]}{made.nearest(unknown[0])}")
    if not (arguments.against or arguments.seeds or len(arguments.runs) == 2):
        raise ConfigError("name two runs; --seeds takes runs that differ by their seed only, --against a second group")

    from ccnet.comparison.compare import compare_groups, compare_pair, describe_group
    from ccnet.comparison.output import print_comparison, write_json
    from ccnet.comparison.run_report import read_report

    reports = [read_report(path, arguments.report) for path in arguments.runs]
    if arguments.against:
        found = compare_groups(reports, [read_report(path, arguments.report) for path in arguments.against])
    else:
        found = describe_group(reports) if arguments.seeds else compare_pair(*reports)
    if arguments.json:
        write_json(arguments.json, found)
    print_comparison(found)


if __name__ == "__main__":
    with one_line_errors():
        main()
