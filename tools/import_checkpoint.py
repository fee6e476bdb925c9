"""Imports another project's weights: python tools/import_checkpoint.py official|mmseg|torchvision FILE --output DIR.

DIR becomes a checkpoint folder for --checkpoint DIR of val.py and predict.py, and for init_from=DIR. The kinds are
speedinghzl/CCNet, mmsegmentation's CCNet (0.x and 1.x), and torchvision's segmentation models: FCN as a whole, of the
others the backbone. With --golden the last number must be at most 1e-4, or nothing is kept.
"""

import argparse
import signal
import sys
from pathlib import Path

from ccnet.command_line import OneLineParser
from ccnet.errors import one_line_errors


def parser() -> OneLineParser:
    """The command line."""
    made = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    made.add_argument("kind", choices=["official", "mmseg", "torchvision"])
    made.add_argument("file", type=Path, metavar="FILE", help="a .pth or .safetensors file")
    made.add_argument("--output", type=Path, required=True, metavar="DIR", help="a folder that is not there yet")
    made.add_argument("--recurrence", type=count, metavar="R", help="default: what the file says, else 2")
    made.add_argument(
        "--classes", type=Path, metavar="FILE", help="names of the classes, a line each: name or name:r,g,b"
    )
    made.add_argument(
        "--golden", type=Path, metavar="FILE.npz", help="image (1,3,H,W), RGB 0..255, and main, the reference's logits"
    )
    return made


def count(text: str) -> int:
    """A number of loops, for argparse."""
    if not text.isdecimal() or int(text) > 64:
        raise ValueError(text)
    return int(text)


def main() -> int:
    """Prints what was taken and, last, the largest difference; returns 1 where that is too large."""
    arguments = parser().parse_args()

    from ccnet.importers.importing import Order, import_checkpoint  # here, so that --help answers at once

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what lies aside is taken away
    try:
        result = import_checkpoint(Order(**vars(arguments)))
    finally:
        signal.signal(signal.SIGTERM, before)
    for line in result.lines:
        print(line)
    print(f"imported into {arguments.output}" if result.is_kept else f"more than 1e-4: {arguments.output} is not kept")
    print(f"largest difference from {result.against}: {result.difference:.3g}")
    return 0 if result.is_kept else 1


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
