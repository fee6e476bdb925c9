"""A training run from its configuration to its report: where all rooms meet."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ccnet import build, checkpoint, distributed, run
from ccnet.allocator import keep_freed_memory
from ccnet.config import RunConfig, to_yaml
from ccnet.errors import CheckpointError
from ccnet.evaluation.metrics import Scores
from ccnet.evaluation.report import finish, is_reported, panel, print_finished
from ccnet.training.log import RunLog
from ccnet.training.milestones import Milestones, resume

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
    """
    build.check(config, overrides)
    build.rehearse(config)
    folder = run.open_run(config)
    device = distributed.setup(config.trainer.device)
    keep_freed_memory(device)
    try:
        _train(config, folder, device)
    finally:
        distributed.shutdown()
    return folder


def _train(config: RunConfig, folder: Path, device: torch.device) -> None:
    if distributed.is_main():
        build.prepare_dataset(config)
    distributed.barrier()
    train_set = build.build_dataset(config, config.train_split)
    val_set = build.build_dataset(config, config.val_split)
    found = checkpoint.newest(folder / "checkpoints")
    torch.manual_seed(config.seed)
    model = build.build_model(config, train_set.num_classes, pretrained=found is None).to(device)
    pixels = found and stored_class_pixels(found, train_set.num_classes)
    pixels = pixels or build.count_class_pixels(config, train_set, device)
    trainer = build.build_trainer(config, model, device, pixels)
    if found:
        resume(trainer, model, found)
    report = build.build_report(config)
    if trainer.step >= config.trainer.max_steps and is_reported(folder):
        if distributed.is_main():
            (report or print_finished)(folder)
        return
    evaluate = build.build_evaluator(config, val_set, device)
    batches = build.build_train_batches(config, train_set, trainer.step)
    if distributed.is_main():
        run.write_run(folder, config, str(device))
        state = f"continues at step {trainer.step}" if trainer.step else "begins"
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        images = f"{len(train_set)} training and {len(val_set)} validation images"
        logger.info("%s %s: %s, %.2f M parameters, %s", folder, state, images, millions, device)
    with RunLog(folder, config.trainer.max_steps, trainer.step, config.trainer.log_every) as log:

        def show(step: int, scores: Scores) -> None:
            log.scores(step, scores.as_dict())
            for picture in evaluate.pictures:
                log.picture(step, f"val/{picture.name}", panel(picture, val_set.palette))

        log.text("config", to_yaml(config))
        about = {**run.about(config, val_set.class_names, val_set.palette), "class_pixels": pixels}
        milestones = Milestones(folder / "checkpoints", trainer, model, evaluate, about, show, config.trainer)
        trainer.fit(batches, [log, milestones])
    scores = evaluate.scores or evaluate(model)  # a run killed between its last step and its report has none yet
    if distributed.is_main():
        finish(folder, scores, evaluate.pictures, val_set.palette, report)


def stored_class_pixels(found: checkpoint.Checkpoint, num_classes: int) -> list[int] | None:
    """The training set's pixels of each class, where a checkpoint holds them.

    Raises:
        CheckpointError: something else stands there.
    """
    pixels = found.meta.get("class_pixels")
    if pixels is None:
        return None
    if not (
        isinstance(pixels, list)
        and len(pixels) == num_classes
        and all(type(count) is int and 0 <= count < 2**63 for count in pixels)
    ):
        raise CheckpointError(f"{found.path}: class_pixels must be {num_classes} numbers of pixels; it is damaged")
    return pixels
