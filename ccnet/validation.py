"""From a checkpoint to its report, or to the files of a test server: what tools/val.py does."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ccnet import build, distributed, run
from ccnet.data.cityscapes import label_ids_of
from ccnet.evaluation.outcome import Outcome
from ccnet.evaluation.output_folder import writing_into
from ccnet.evaluation.report import track, write_report
from ccnet.evaluation.submission import write_submission
from ccnet.loaded_model import MODEL_PARTS, load_model

PARTS = (*MODEL_PARTS, "dataset")


def validate(
    path: Path,
    device: torch.device,
    overrides: Sequence[str] = (),
    split: str | None = None,
    output: Path | None = None,
    allowed: Collection[str] = (),
) -> tuple[Outcome, Path]:
    """Scores a checkpoint on a split, and writes the report.

    Args:
        path: a checkpoint folder.
        device: where the model is asked.
        overrides: changes of the checkpoint's configuration.
        split: of the data; the checkpoint's `val_split` where None.
        output: the report's folder; one in `report/` of the checkpoint's run where None.
        allowed: targets beside ccnet's own classes that the checkpoint may name.

    Returns:
        What was found, and the report's folder.

    Raises:
        UserError: the checkpoint, the data or the folder is not what it has to be.
        OutOfMemoryError: with what takes less.
    """
    loaded = load_model(path, device, overrides, PARTS, allowed)
    split = split or loaded.config.val_split
    dataset = build.build_dataset(loaded.config, split)
    loaded.require_classes_of(dataset)
    folder = output or run.report_folder(path, split, loaded.config, overrides)
    _refuse_unwritable(folder)
    evaluate = build.build_evaluator(loaded.config, dataset, device)
    if distributed.is_main():
        evaluate.track = track
    evaluate(loaded.model)
    assert evaluate.outcome is not None  # nothing asks this evaluation to stop
    if distributed.is_main():
        about = run.evaluation_record(loaded.config, path, loaded.step, split, str(device), overrides)
        write_report(folder, evaluate.outcome, dataset.palette, about, run.log_of(path))
    return evaluate.outcome, folder


def submit(
    path: Path,
    device: torch.device,
    overrides: Sequence[str] = (),
    split: str | None = None,
    output: Path | None = None,
    allowed: Collection[str] = (),
) -> tuple[int, Path]:
    """Predicts a split, which needs no labels, as PNGs of labelIds for the Cityscapes test server.

    Args:
        path, device, overrides, split, allowed: as for `validate`.
        output: takes the PNGs; `submission/` in the folder that a report would have where None.

    Returns:
        How many images were written by all ranks, and the folder.

    Raises:
        UserError: as `validate`; the data set is not Cityscapes.
    """
    loaded = load_model(path, device, overrides, PARTS, allowed)
    split = split or loaded.config.val_split
    dataset = build.build_dataset(loaded.config, split, labelled=False)
    loaded.require_classes_of(dataset)
    table = label_ids_of(dataset)
    inference = build.build_inference(loaded.config)
    folder = output or run.report_folder(path, split, loaded.config, overrides) / "submission"
    _refuse_unwritable(folder)
    batches: Iterable[Any] = build.build_evaluation_batches(loaded.config, dataset, inference.batch_size)
    batches = track(batches) if distributed.is_main() else batches
    written = write_submission(batches, inference, loaded.model, device, table, folder)
    return int(distributed.sum_over_ranks(torch.tensor(written, device=device))), folder


def _refuse_unwritable(folder: Path) -> None:
    """What is wrong with the folder is told before the evaluation, which may take hours."""
    if distributed.is_main():
        with writing_into(folder):
            pass
