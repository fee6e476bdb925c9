"""Trains: python tools/train.py [+experiment=NAME] [key=value ...]. The same command resumes an unfinished run."""

import logging
import os
import sys

import hydra
from omegaconf import DictConfig

from ccnet.config import RunConfig, composition_errors, to_config, to_yaml, with_sweep_name
from ccnet.config_errors import CONFIG_DIR
from ccnet.errors import one_line_errors

os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come through; the ones of users are printed as one line below


def train(config: RunConfig) -> None:
    """One run, from its configuration to its report."""
    import torch  # here, so that --help and a mistyped key answer at once

    from ccnet import build, checkpoint, distributed, run
    from ccnet.evaluation.report import finish, panel, print_finished
    from ccnet.training.log import RunLog
    from ccnet.training.milestones import Milestones, resume

    build.check(config, sys.argv[1:])
    folder = run.open_run(config)
    device = distributed.setup(config.trainer.device)
    if distributed.is_main():
        build.prepare_dataset(config)
    distributed.barrier()
    train_set = build.build_dataset(config, config.train_split)
    val_set = build.build_dataset(config, config.val_split)
    torch.manual_seed(config.seed)
    model = build.build_model(config, train_set.num_classes, pretrained=True).to(device)
    trainer = build.build_trainer(config, model, device)
    if found := checkpoint.newest(folder / "checkpoints"):
        resume(trainer, model, found)
    if trainer.step >= config.trainer.max_steps:
        print_finished(folder)
        return
    if distributed.is_main():
        run.write_run(folder, config, str(device))
    evaluate = build.build_evaluator(config, val_set, device)
    with RunLog(folder, config.trainer.max_steps, trainer.step, config.trainer.log_every) as log:
        log.text("config", to_yaml(config))

        def show(step: int) -> None:
            log.scores(step, evaluate.scores.as_dict())
            for picture in evaluate.pictures:
                log.picture(step, f"val/{picture.name}", panel(picture, val_set.palette))

        about = run.about(config, val_set.class_names, val_set.palette)
        milestones = Milestones(folder / "checkpoints", trainer, model, evaluate, about, show, config.trainer)
        trainer.fit(build.build_train_batches(config, train_set, trainer.step), [log, milestones])
    if distributed.is_main():
        finish(folder, evaluate.scores, evaluate.pictures, val_set.palette)
    distributed.shutdown()


@hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="train")
def main(node: DictConfig) -> None:
    """Hydra's entry point."""
    with one_line_errors():
        train(with_sweep_name(to_config(node, sys.argv[1:])))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors(), composition_errors(sys.argv[1:]):
        main()
