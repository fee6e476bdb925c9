"""Predicts: python tools/predict.py --input FOLDER_OR_OTHER [--output DIR] [--checkpoint ...] [--aug-eval]."""

import logging
import os
import sys
from pathlib import Path

from ccnet.command_line import MODEL_KEYS, OneLineParser, effective_overrides, evaluation_parser, names, parse, share
from ccnet.errors import one_line_errors

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py


def parser() -> OneLineParser:
    """The command line."""
    made = evaluation_parser(__doc__)
    made.add_argument("--input", required=True, help="an image, a folder, a quoted pattern, or a .txt of a path a line")
    made.add_argument("--opacity", type=share, default=0.6, help="of the colours in overlays, 0..1 (default 0.6)")
    made.add_argument("--classes", type=names, metavar="A,B", help="show these alone; others are 255 in the mask")
    made.add_argument("--save-confidence", action="store_true", help="the highest probability, 8-bit grey PNG")
    made.add_argument("--save-probabilities", action="store_true", help="of all classes, float16 in .npz")
    made.add_argument("--resume", action="store_true", help="leave out what the same model did with the same files")
    return made


def main() -> int:
    """Writes masks, colours and overlays; returns 0 if every image worked, 3 if some did, 1 if none."""
    arguments = parse(parser())
    overrides = effective_overrides(arguments, MODEL_KEYS)
    output = Path(arguments.output or "predictions")

    import ccnet
    from ccnet.allocator import keep_freed_memory
    from ccnet.prediction.inputs import find_inputs
    from ccnet.prediction.pipeline import predict_files
    from ccnet.prediction.results import Results, class_indices

    inputs = find_inputs(arguments.input, output)
    allowed = arguments.allow_target
    model = ccnet.load(arguments.checkpoint, device=arguments.device, overrides=overrides, allow_targets=allowed)
    keep_freed_memory(model.device)
    results = Results(
        output,
        model.class_names,
        model.palette,
        opacity=arguments.opacity,
        classes=class_indices(arguments.classes, model.class_names) if arguments.classes else None,
        confidence=arguments.save_confidence,
        probabilities=arguments.save_probabilities,
    )
    summary = predict_files(model, inputs, results, resume=arguments.resume)
    print(summary.line())
    return summary.exit_status()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        sys.exit(main())
