"""A training run from its configuration to its report: where all rooms meet."""

import logging
import math
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from ccnet import build, build_training, checkpoint, distributed, run
from ccnet.allocator import keep_freed_memory
from ccnet.checkpoint import Checkpoint
from ccnet.config import flat, to_json, to_yaml
from ccnet.data.doctor.quick import quick_check
from ccnet.data.sample import LabelledImages
from ccnet.errors import CheckpointError
from ccnet.evaluation.evaluator import Evaluator
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.report import finish, is_reported, panel, print_finished
from ccnet.fine_tuning import initialize
from ccnet.models.segmentor import Segmentor
from ccnet.out_of_memory import training_memory_errors
from ccnet.part_checks import check
from ccnet.schema import BadSample, RunConfig
from ccnet.training.early_stopping import EarlyStopping
from ccnet.training.ema import WeightAverage
from ccnet.training.log import RunLog
from ccnet.training.milestones import Milestones, Stateful
from ccnet.training.phases import Phases
from ccnet.training.signals import StopSignals
from ccnet.training.trainer import Trainer

logger = logging.getLogger("ccnet")


def train(config: RunConfig, overrides: Sequence[str] = ()) -> Path:
    """Starts the run, or continues what its folder holds of it.

    Args:
        config: of the run.
        overrides: the command line, for messages.

    Returns:
        The run's folder.

    Raises:
        UserError: a mistake in the configuration, the data or the run's folder.
        RunStoppedError: a signal came; what was done is saved.
    """
    check(config, overrides)
    build_training.rehearse(config)
    folder = Path(config.runs_dir) / config.name
    device = distributed.setup(config.trainer.device)
    keep_freed_memory(device)
    try:
        build_training.require_equal_parts(config)
        distributed.on_main_first(lambda: build.prepare_dataset(config))
        # Before the run has a folder: what is wrong with the data leaves none behind.
        train_set, val_set = build_training.build_train_set(config), build.build_dataset(config, config.val_split)
        with run.only_writer(folder) if distributed.is_main() else nullcontext():
            distributed.barrier()
            run.open_run(config)
            _train(config, folder, train_set, val_set, device)
    finally:
        distributed.shutdown()
    return folder


@dataclass
class _Parts:
    """What a run is made of."""

    train_set: LabelledImages
    val_set: LabelledImages
    model: Segmentor
    average: WeightAverage | None
    trainer: Trainer
    phases: list[Phases]
    early_stopping: EarlyStopping | None
    about: dict[str, Any]


def _train(
    config: RunConfig, folder: Path, train_set: LabelledImages, val_set: LabelledImages, device: torch.device
) -> None:
    found = checkpoint.newest(folder / "checkpoints")
    start = _agreed_start(found, folder)
    if is_reported(folder, {"step": start, "max_steps": config.trainer.max_steps}):
        if distributed.is_main():
            (build.build_report(config) or print_finished)(folder)
        return
    parts = _make(config, folder, train_set, val_set, found, device)
    if distributed.is_main():
        run.write_run(folder, config, str(device))
        _introduce(folder, parts, found, device)
    signals = StopSignals()
    evaluate = build.build_evaluator(config, val_set, device, should_stop=signals.asked)
    limits = config.trainer
    with RunLog(
        folder, limits.max_steps, start, limits.log_every, evaluate_every=limits.evaluate_every, device=device
    ) as log:
        log.text("config", to_yaml(config))
        log.hparams(flat(to_json(config)), ["val/mIoU", "val/loss"])
        milestones = _milestones(config, folder, parts, evaluate, log, signals)
        if found:
            milestones.restore(found)
            del found  # a copy of all weights
        with signals:
            _fit(config, parts, milestones, log)
            if evaluate.outcome is None:  # the process before was killed between its last step and its report
                evaluate(milestones.evaluated)
                milestones.stop_if_asked(parts.trainer.step)
    if distributed.is_main() and evaluate.outcome:
        saved = checkpoint.list_checkpoints(folder / "checkpoints")[-1]
        about = run.evaluation_record(config, saved, parts.trainer.step, config.val_split, str(device))
        about["max_steps"] = limits.max_steps
        finish(folder, evaluate.outcome, val_set.palette, about, build.build_report(config))


def _agreed_start(found: Checkpoint | None, folder: Path) -> int:
    """The step from which all ranks go on.

    Raises:
        CheckpointError: they see different checkpoints.
    """
    step = found.step if found else 0
    if distributed.largest_over_ranks(step) != -distributed.largest_over_ranks(-step):
        raise CheckpointError(f"the ranks see different checkpoints in {folder}; runs_dir must be one folder for all")
    return step


def _make(
    config: RunConfig,
    folder: Path,
    train_set: LabelledImages,
    val_set: LabelledImages,
    found: Checkpoint | None,
    device: torch.device,
) -> _Parts:
    """Everything that learns, at its beginning; what a checkpoint brings along is not looked for again."""
    if found is None and distributed.is_main():
        skip = config.trainer.on_bad_sample is BadSample.skip
        quick_check(train_set, val_set, seed=config.seed, skip_unreadable=skip)
    torch.manual_seed(config.seed)
    model = build.build_model(config, train_set.num_classes, pretrained=not (found or config.init_from))
    if config.init_from and not found:
        initialize(model, config.init_from, train_set.class_names, config.runs_dir)
    model.to(device)
    pixels = found.class_pixels(train_set.num_classes) if found else None
    pixels = pixels or build_training.count_class_pixels(config, train_set, device)
    trainer = build_training.build_trainer(config, model, device, pixels, folder / "bad_batches.jsonl")
    return _Parts(
        train_set,
        val_set,
        model,
        average=build_training.build_average(config, model),
        trainer=trainer,
        phases=build_training.build_phases(config, trainer, model, len(train_set)),
        early_stopping=build_training.build_early_stopping(config, val_set),
        about={
            **run.about(config, val_set.class_names, val_set.palette),
            "class_pixels": pixels,
            "ranks": distributed.world_size(),
        },
    )


def _introduce(folder: Path, parts: _Parts, found: Checkpoint | None, device: torch.device) -> None:
    state = f"continues at step {found.step}" if found else "begins"
    millions = sum(parameter.numel() for parameter in parts.model.parameters()) / 1e6
    images = f"{len(parts.train_set)} training and {len(parts.val_set)} validation images"
    logger.info("%s %s: %s, %.2f M parameters, %s", folder, state, images, millions, device)
    ranks = distributed.world_size()
    if found and found.meta.get("ranks") != ranks:
        logger.warning(
            "it was trained by %s ranks and goes on with %d: dropout and batch statistics will differ from what they "
            "would have been",
            found.meta.get("ranks"),
            ranks,
        )


def _milestones(
    config: RunConfig, folder: Path, parts: _Parts, evaluate: Evaluator, log: RunLog, signals: StopSignals
) -> Milestones[Scores]:
    batch_size = distributed.world_size() * config.evaluation.get("batch_size", 1)
    num_batches = math.ceil(len(parts.val_set) / batch_size)
    evaluate.track = lambda batches: log.evaluating(batches, num_batches)

    def show(step: int, scores: Scores) -> None:
        assert evaluate.outcome is not None  # it has just been made
        for picture in evaluate.outcome.pictures:
            log.picture(step, f"val/{picture.name}", panel(picture, parts.val_set.palette))
        log.scores(step, scores.as_dict())  # after the pictures: its row says that the evaluation is told
        if parts.early_stopping:
            parts.early_stopping.update(scores.as_dict())

    stateful: dict[str, Stateful] = {"trainer": parts.trainer, "log": log}
    if parts.early_stopping:
        stateful["early_stopping"] = parts.early_stopping
    return Milestones(
        folder / "checkpoints", parts.trainer, parts.model, parts.average, evaluate, stateful, parts.about, show,
        config.trainer, signals,
    )  # fmt: skip


def _fit(config: RunConfig, parts: _Parts, milestones: Milestones[Scores], log: RunLog) -> None:
    """From the trainer's step to the last one, or to where nothing gets better any more."""
    trainer, early_stopping, settings = parts.trainer, parts.early_stopping, config.trainer
    milestones.catch_up()
    averages = [parts.average] if parts.average else []
    with (
        closing(build_training.build_train_batches(config, parts.train_set, trainer.step)) as batches,
        training_memory_errors(
            config.augmentation.get("crop_size"), settings.batch_size, settings.accumulation,
            settings.activation_checkpointing, settings.precision,
        ),
    ):  # fmt: skip
        wanted = takewhile(lambda _: not (early_stopping and early_stopping.stopped), log.timed(batches))
        trainer.fit(wanted, parts.phases, [*averages, log, milestones])
