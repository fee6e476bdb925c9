"""Evaluates: python tools/val.py [--checkpoint RUN_OR_CHECKPOINT ...] [--split SPLIT] [--aug-eval] [key=value ...]."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from ccnet.command_line import MODEL_KEYS, effective_overrides, evaluation_parser, parse
from ccnet.errors import one_line_errors

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see train.py


def main() -> None:
    """Scores checkpoints on a split, with a report each; several of them end in a table."""
    parser = evaluation_parser(__doc__, several_checkpoints=True)
    parser.add_argument("--split", help="data split; the run's val_split where not given")
    parser.add_argument(
        "--format-only", choices=["cityscapes"], help="write what the test server takes, and score nothing"
    )
    arguments = parse(parser)
    overrides = effective_overrides(arguments, (*MODEL_KEYS, "dataset", "trainer.workers"))

    from ccnet import distributed, run
    from ccnet.allocator import keep_freed_memory
    from ccnet.evaluation.score_table import print_comparison, print_scores
    from ccnet.validation import submit, validate

    paths = list(dict.fromkeys(run.find_checkpoint(where) for where in arguments.checkpoint or [None]))
    outputs = [Path(arguments.output) if arguments.output else None] * len(paths)
    if arguments.output and len(paths) > 1:
        outputs = [Path(arguments.output) / name for name in run.distinct_names(paths)]
    device = distributed.setup(arguments.device)
    keep_freed_memory(device)
    outcomes = {}
    for path, output in zip(paths, outputs, strict=True):
        options = (path, device, overrides, arguments.split, output, arguments.allow_target)
        if arguments.format_only:
            written, folder = submit(*options)
            if distributed.is_main():
                print(f"{written} images in {folder}")
            continue
        outcome, folder = validate(*options)
        if distributed.is_main():
            print(f"report in {folder / 'report.html'}")
            print_scores(outcome)
        outcomes[str(path)] = replace(outcome, pictures=(), worst=())  # several would fill the memory
    if len(outcomes) > 1 and distributed.is_main():
        print_comparison(outcomes)
    distributed.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        main()
