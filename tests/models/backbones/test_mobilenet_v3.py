"""MobileNetV3: its last convolution and its norms; test_features.py holds its features against torchvision."""

import pytest
import torch
import torchvision
from torch import nn

from ccnet.models.backbones.mobilenet_v3 import MobileNetV3


@pytest.mark.parametrize(
    ("variant", "last_conv", "last"), [("large", True, 960), ("large", False, 160), ("small", True, 576),
                                       ("small", False, 96)],
)  # fmt: skip
def test_out_channels_are_the_real_ones(variant: str, last_conv: bool, last: int) -> None:
    """Oracle: the features' own shapes, the last as in Tables 1 and 2 of the paper."""
    with torch.device("meta"):
        backbone = MobileNetV3(variant, 16, last_conv)  # type: ignore[arg-type]
        channels = [feature.shape[1] for feature in backbone.eval()(torch.zeros(1, 3, 33, 33))]
    assert backbone.out_channels == channels
    assert channels[-1] == last


def test_its_norms_are_torchvisions_but_for_the_momentum() -> None:
    """Oracle: torchvision's own: as many, with the same eps of 0.001."""
    with torch.device("meta"):
        backbone, blocks = MobileNetV3("small"), torchvision.models.mobilenet_v3_small().features
    ours, theirs = ([m for m in each.modules() if isinstance(m, nn.BatchNorm2d)] for each in (backbone, blocks))
    assert len(ours) == len(theirs)
    assert {(norm.eps, norm.momentum) for norm in ours} == {(0.001, 0.1)}
    assert {norm.eps for norm in theirs} == {0.001}
