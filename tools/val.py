"""Evaluates: python tools/val.py [--checkpoint RUN_OR_CHECKPOINT] [--aug-eval] [key=value ...]."""

import logging
from pathlib import Path

from ccnet.command_line import MODEL_KEYS, effective_overrides, evaluation_parser, parse
from ccnet.errors import one_line_errors


def main() -> None:
    """Scores a checkpoint on its validation split."""
    parser = evaluation_parser(__doc__)
    parser.add_argument("--split", help="data split; the run's val_split where not given")
    arguments = parse(parser)
    overrides = effective_overrides(arguments, (*MODEL_KEYS, "dataset", "trainer.workers"))

    from ccnet import build, distributed, run
    from ccnet.allocator import keep_freed_memory
    from ccnet.evaluation.report import print_scores, track, write_pictures, write_report
    from ccnet.loaded_model import MODEL_PARTS, load_model

    device = distributed.setup(arguments.device)
    keep_freed_memory(device)
    path = run.find_checkpoint(arguments.checkpoint)
    loaded = load_model(path, device, overrides, (*MODEL_PARTS, "dataset"), arguments.allow_target)
    split = arguments.split or loaded.config.val_split
    dataset = build.build_dataset(loaded.config, split)
    loaded.require_classes_of(dataset)
    evaluate = build.build_evaluator(loaded.config, dataset, device, track=track)
    scores = evaluate(loaded.model)
    assert scores is not None  # nothing asks this evaluation to stop
    if distributed.is_main():
        folder = (
            Path(arguments.output) if arguments.output else run.report_folder(path, split, loaded.config, overrides)
        )
        write_report(folder, scores, run.evaluation_record(loaded, split))
        write_pictures(folder / "pictures", evaluate.pictures, dataset.palette)
        print(f"report in {folder}")
        print_scores(scores)
    distributed.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        main()
