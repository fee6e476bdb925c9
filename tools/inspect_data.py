"""Looks for mistakes in a data set: python tools/inspect_data.py dataset=... [--full] [key=value ...].

Takes the words of a training command. Prints findings and figures, and writes index.html, samples as the network sees
them, and statistics.json. The exit status is 1 where it found errors.
"""

import argparse
import os
import sys
from pathlib import Path

from ccnet.command_line import OneLineParser, parse
from ccnet.config import compose_config
from ccnet.errors import one_line_errors


def parser() -> OneLineParser:
    """The command line."""
    made = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    made.add_argument("--full", action="store_true", help="look at all files, not at a sample of 200 of each split")
    made.add_argument("--split", action="append", metavar="NAME", help="repeatable; default: train_split and val_split")
    made.add_argument("--output", type=Path, metavar="FOLDER", help="default: inspection/ in runs_dir")
    made.add_argument("--workers", type=count, default=min(os.cpu_count() or 1, 8), help="processes that read")
    made.add_argument("overrides", nargs="*", help="what to look at, such as dataset=camvid or +experiment=voc_r2_ohem")
    return made


def count(text: str) -> int:
    """A number from 0 on, for argparse."""
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def main() -> int:
    """Returns 1 where training on this data would be wrong, else 0."""
    arguments = parse(parser())
    config = compose_config(arguments.overrides)

    from ccnet import build
    from ccnet.inspection.inspect import inspect
    from ccnet.inspection.output import make_folder, write_output
    from ccnet.inspection.tables import print_inspection
    from ccnet.part_checks import check

    check(config, arguments.overrides, parts=("dataset", "prepare", "augmentation"))
    augmentation = build.build_part(config.augmentation)
    output = arguments.output or Path(config.runs_dir) / "inspection"
    make_folder(output)
    build.prepare_dataset(config)
    splits = list(dict.fromkeys(arguments.split or [config.train_split, config.val_split]))
    inspection = inspect(config, splits, full=arguments.full, workers=arguments.workers)
    print_inspection(inspection, config.train_split)
    write_output(output, inspection, config, augmentation)
    return int(inspection.has_errors)


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
