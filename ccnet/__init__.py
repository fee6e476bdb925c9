"""Semantic segmentation with recurrent criss-cross attention (CCNet, arXiv:1811.11721).

import ccnet
model = ccnet.load("runs/latest")
mask = model.predict("street.jpg")
"""

import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccnet.prediction.predictor import Predictor

# albumentations asks a package index for its newest version at import unless told otherwise.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = "0.1.0"


def load(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    overrides: Sequence[str] = (),
    allow_targets: Collection[str] = (),
) -> "Predictor":
    """A trained model that is ready to be asked. Sets nothing up that other code in the process would notice.

    Args:
        checkpoint: a run, whose best checkpoint is taken, or a checkpoint folder; the latest run in runs/ where None.
        device: auto (CUDA, else Apple's MPS, else the CPU), cpu, mps, cuda or cuda:1.
        overrides: changes of the checkpoint's configuration, such as `head.recurrence=3` or `evaluation.flip=true`.
        allow_targets: your own classes that the checkpoint may name.

    Raises:
        CheckpointError: no such checkpoint, or a damaged one.
        ConfigError: an override that is unknown or would have no effect, or a device that is not there.
    """
    from ccnet.prediction import predictor  # here, so that `import ccnet` does not bring PyTorch

    return predictor.load(checkpoint, device, overrides, allow_targets)
