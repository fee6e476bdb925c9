"""A run that attacks are tried on, through every entry that takes a checkpoint."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ccnet import build, build_training, checkpoint
from ccnet.errors import UserError
from ccnet.fine_tuning import initialize
from ccnet.loaded_model import load_model
from ccnet.run import about
from ccnet.schema import RunConfig
from ccnet.training.early_stopping import EarlyStopping
from ccnet.training.log import RunLog
from ccnet.training.milestones import Milestones
from ccnet.training.signals import StopSignals
from tests.faults.attacks import limits, sign, snapshot
from tests.faults.zygote import run_config

CPU = torch.device("cpu")
CLASSES, PALETTE = ["dark", "bright"], [(0, 0, 0), (255, 255, 255)]
Make = Callable[[Path], object]


@dataclass
class Victim:
    """A run that could go on, and a whole checkpoint of it.

    tried: attacks so far, refused through every entry that would read them.
    """

    good: Path
    milestones: Milestones[Any]
    config: RunConfig
    place: Path
    tried: int = 0

    def resume(self, run: Path) -> None:
        """What a run does when it continues."""
        found = checkpoint.newest(run / "checkpoints")
        assert found is not None, f"{run} would begin anew"
        found.class_pixels(len(CLASSES))
        self.milestones.folder = run / "checkpoints"
        self.milestones.restore(found)

    def load(self, run: Path) -> None:
        """What val and predict do."""
        [path] = (run / "checkpoints").iterdir()
        load_model(path, CPU)

    def begin_from(self, source: Path) -> None:
        """init_from."""
        if (source / "checkpoints").is_dir():
            [source] = (source / "checkpoints").iterdir()
        initialize(self.milestones.model, str(source), CLASSES, "runs")

    def attacked(self, change: Make, *, signed: bool) -> Path:
        """A run with a copy of the checkpoint, changed."""
        run = self.place / "attack"
        shutil.copytree(self.good, run / "checkpoints" / self.good.name)
        change(run / "checkpoints" / self.good.name)
        if signed:
            sign(run / "checkpoints" / self.good.name)
        return run

    def refuses(
        self, source: Path, *entries: Callable[[Path], None], canary: Path | None = None, name: str = ""
    ) -> None:
        """Every entry refuses in time, within memory, in one line that names the source, and changes no file."""
        before = snapshot(self.place)
        for entry in entries:
            try:
                with limits():
                    entry(source)
            except UserError as error:
                message = str(error)
            except BaseException as error:
                error.add_note(f"attack: {name}")
                raise
            else:
                pytest.fail(f"{name} is taken by {entry.__name__}")
            assert str(source) in message, name
            assert len(message) < 2000, name
            assert snapshot(self.place) == before, name
            assert canary is None or not os.path.lexists(canary), name
        self.tried += 1

    def clear(self) -> None:
        """An empty place for the next ones."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def make_victim(folder: Path, place: Path) -> Victim:
    """A small model with attention, averaged weights and early stopping, saved after a step of AdamW.

    Args:
        folder: where it is saved.
        place: where attacks are made.
    """
    config = run_config(folder, folder)
    model = build.build_model(config, len(CLASSES), pretrained=False)
    trainer, average = build_training.build_trainer(config, model, CPU), build_training.build_average(config, model)
    (folder / "log").mkdir()
    log = RunLog(folder / "log", 8, 7, 3, evaluate_every=4, device=CPU)
    parts = {"trainer": trainer, "log": log, "early_stopping": EarlyStopping("mIoU", 3, 0.0, ["mIoU"])}
    meta = {**about(config, CLASSES, PALETTE), "class_pixels": [5, 6]}
    milestones: Milestones[Any] = Milestones(
        *(folder / "checkpoints", trainer, model, average, lambda _: None, parts, meta, lambda *_: None),
        config.trainer,
        StopSignals(),
    )
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    milestones.save(7)
    log.board.close()
    return Victim(folder / "checkpoints" / "step_0000007", milestones, config, place)
