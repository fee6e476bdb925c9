"""Prints what every backbone costs with every head: python tools/models.py [--size H,W] [--json FILE]."""

from pathlib import Path

from ccnet.command_line import OneLineParser
from ccnet.errors import one_line_errors
from ccnet.json_file import require_place


def size(text: str) -> tuple[int, int]:
    """H,W as two positive numbers."""
    height, width = map(int, text.split(","))
    if min(height, width) < 1:
        raise ValueError(text)
    return height, width


def parser() -> OneLineParser:
    """The command line."""
    made = OneLineParser(description=__doc__, allow_abbrev=False)
    made.add_argument("--size", type=size, default=(1024, 2048), metavar="H,W", help="of the image; 1024,2048")
    made.add_argument("--backbone", default="*", metavar="GLOB", help="those of configs/backbone that match; all")
    made.add_argument("--head", default="*", metavar="GLOB", help="those of configs/head that match; all")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    return made


def main() -> None:
    """Prints the table as it grows, and writes the rows."""
    arguments = parser().parse_args()
    if arguments.json:
        require_place(arguments.json)

    from ccnet.model_table import choices, model_rows, print_table, write_json  # here, so that --help answers at once

    backbones, heads = choices("backbone", arguments.backbone), choices("head", arguments.head)
    printed = print_table(model_rows(arguments.size, backbones, heads))
    if arguments.json:
        write_json(arguments.json, printed)


if __name__ == "__main__":
    with one_line_errors():
        main()
