"""Predicts: python tools/predict.py --input FILE_OR_FOLDER [--output DIR] [--checkpoint ...] [--aug-eval]."""

import logging
import sys
from pathlib import Path

from ccnet.command_line import MODEL_KEYS, effective_overrides, evaluation_parser, parse, share
from ccnet.errors import one_line_errors


def main() -> int:
    """Writes index masks, colours and overlays; returns 0 if every image worked, 3 if some did, 1 if none."""
    parser = evaluation_parser(__doc__)
    parser.add_argument("--input", required=True, help="an image, or a folder searched with its sub-folders")
    parser.add_argument("--opacity", type=share, default=0.6, help="of the colours in overlays, 0..1 (default 0.6)")
    arguments = parse(parser)
    overrides = effective_overrides(arguments, MODEL_KEYS)

    from ccnet import build, distributed, run
    from ccnet.allocator import keep_freed_memory
    from ccnet.loaded_model import load_model
    from ccnet.prediction import find_images, predict_images

    output = Path(arguments.output or "predictions")
    images = find_images(Path(arguments.input), output)
    device = distributed.setup(arguments.device)
    keep_freed_memory(device)
    path = run.find_checkpoint(arguments.checkpoint)
    loaded = load_model(path, device, overrides, allowed=arguments.allow_target)
    inference = build.build_inference(loaded.config)
    failures = predict_images(loaded, inference, images, output, arguments.opacity)
    print(f"{len(images) - len(failures)} of {len(images)} images predicted into {output} with {path}")
    return 0 if not failures else 1 if len(failures) == len(images) else 3


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        sys.exit(main())
