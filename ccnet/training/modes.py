"""Which modules train and which stay as they are: frozen batch normalisation, also where phases freeze whole stages."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_norms(module: nn.Module) -> None:
    """Takes scale and shift of every batch normalisation out of training; `training_mode` then leaves its running
    statistics alone too, so that it is one fixed affine map (detectron2's FrozenBN, mmsegmentation's norm_eval).

    Meant for a backbone with pretrained statistics and batches of few images: from random weights the statistics are 0
    and 1, and freezing them leaves a network without normalisation. To be called before the optimizer is made.

    Args:
        module: the backbone, or the whole model where all of it is pretrained.
    """
    for norm in _norms(module):
        norm.requires_grad_(False)


def training_mode(model: nn.Module) -> None:
    """`model.train()`, but for batch normalisation whose parameters are all frozen: it stays in evaluation mode.

    Serves `freeze_norms` and staged training alike: what does not train keeps its statistics. Normalisation without
    parameters of its own cannot be frozen and trains.
    """
    model.train()
    for norm in _norms(model):
        parameters = list(norm.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            norm.eval()


def _norms(module: nn.Module) -> list[_BatchNorm]:
    return [each for each in module.modules() if isinstance(each, _BatchNorm)]
