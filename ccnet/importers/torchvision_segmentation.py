"""Checkpoints of torchvision's segmentation models: FCN as a whole, of the others the backbone."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ccnet.errors import ConfigError
from ccnet.importers.foreign import Foreign, auxiliary_overrides, classes_in
from ccnet.importers.source import Source
from ccnet.importers.translation import Names, resnet_depth, translated, width_of

BACKBONE = "backbone."
NAMES = Names(
    {
        BACKBONE: BACKBONE,
        "classifier.0.": "head.conv.0.",
        "classifier.1.": "head.conv.1.",
        "classifier.4.": "head.classifier.",
        "aux_classifier.0.": "auxiliary_head.conv.0.",
        "aux_classifier.1.": "auxiliary_head.conv.1.",
        "aux_classifier.4.": "auxiliary_head.classifier.",
    }
)


def is_fcn(source: Source) -> bool:
    """Whether the head is torchvision's FCNHead, which is ours."""
    return "classifier.0.weight" in source.state


def read(source: Source, recurrence: int | None) -> Foreign:
    """The network of an fcn_resnet50 or fcn_resnet101.

    Raises:
        CheckpointError: it is another network.
        ConfigError: a recurrence.
    """
    if recurrence is not None:
        raise ConfigError("--recurrence has no effect: torchvision's heads have no attention")
    overrides = [
        "+experiment=cityscapes_r2",
        "backbone=resnet50",
        f"backbone.depth={resnet_depth(source, BACKBONE)}",
        "head=fcn",
        f"head.channels={width_of(source, 'classifier.0.weight')}",
        *auxiliary_overrides(source, "aux_classifier.0.weight"),
    ]
    return Foreign(source, overrides, NAMES, classes_in(source, "classifier.4.weight"))


def backbone_of(source: Source) -> tuple[str, dict[str, Tensor], list[str]]:
    """The classification network that another model stands on: its name at torchvision, its tensors by the names there,
    and the names of what was left out.

    Raises:
        CheckpointError: neither a ResNet nor MobileNetV3-large, or not all of it.
    """
    from torchvision.models import get_model

    inside = {name: value for name, value in source.state.items() if name.startswith(BACKBONE)}
    is_mobilenet = f"{BACKBONE}0.0.weight" in inside
    architecture = "mobilenet_v3_large" if is_mobilenet else f"resnet{resnet_depth(source, BACKBONE)}"
    with torch.device("meta"):
        network = get_model(architecture, weights=None)
    network.fc = network.classifier = nn.Identity()
    names = Names({BACKBONE: "features." if is_mobilenet else ""})
    state = translated(replace(source, state=inside), names, network)
    return architecture, state, [name for name in source.state if name not in inside]
