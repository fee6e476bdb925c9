"""Fusion from coarse to fine."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from ccnet.models.attention.pyramid import PyramidFusion


def enlarged(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest neighbours: position i takes floor(i * old / new)."""
    rows = np.arange(height) * array.shape[2] // height
    columns = np.arange(width) * array.shape[3] // width
    return array[:, :, rows][:, :, :, columns]


def oracle(fusion: PyramidFusion, features: list[Tensor]) -> list[np.ndarray]:
    levels = [feature.numpy().copy() for feature in features]
    for index in (2, 1, 0):
        above, layer = levels[index + 1], fusion.to_finer[index]
        if list(layer.parameters()):
            weight, bias = (parameter.detach().numpy() for parameter in (layer.weight, layer.bias))
            above = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], above) + bias[:, None, None]
        levels[index] = levels[index] + enlarged(above, *levels[index].shape[2:])
    return levels


@pytest.mark.parametrize("channels", [[4, 4, 4, 4], [2, 3, 5, 7], [4, 8, 8, 3]])
@pytest.mark.parametrize("sizes", [[(9, 14), (5, 7), (3, 4), (2, 2)], [(8, 8), (4, 4), (4, 4), (4, 4)], [(1, 1)] * 4])
def test_levels_add_up(channels: list[int], sizes: list[tuple[int, int]]) -> None:
    """Oracle: NumPy; the list of a backbone, odd sizes, and stages that share a stride. The inputs stay."""
    fusion = PyramidFusion(channels).double()
    for convolution in fusion.parameters():
        torch.nn.init.normal_(convolution)
    features = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]
    before = [feature.clone() for feature in features]
    found = fusion(features)
    for level, expected in zip(found, oracle(fusion, features), strict=True):
        np.testing.assert_allclose(level.detach().numpy(), expected, atol=1e-12)
    assert all(map(torch.equal, features, before))


def test_equal_channels_need_no_parameters() -> None:
    """Oracle: a 1x1 convolution and its bias for each pair of neighbours that differ, and none for the others."""
    assert list(PyramidFusion([256] * 5).parameters()) == []
    assert sum(each.numel() for each in PyramidFusion([4, 4, 6]).parameters()) == 6 * 4 + 4


def test_the_levels_of_torchvision_keep_their_names() -> None:
    """Oracle: the list with the same numbers."""
    names, features = ["0", "1", "pool"], [torch.randn(1, 4, side, side) for side in (8, 4, 2)]
    fusion = PyramidFusion([4] * 3)
    found = fusion(OrderedDict(zip(names, features, strict=True)))
    assert isinstance(found, OrderedDict)
    assert list(found) == names
    assert all(map(torch.equal, found.values(), fusion(features)))


def test_wrong_numbers_of_levels() -> None:
    """Oracle: the documented errors."""
    with pytest.raises(ValueError, match=r"two levels or more, got channels=\[4\]"):
        PyramidFusion([4])
    with pytest.raises(ValueError, match="3 levels were given to a fusion of 2"):
        PyramidFusion([4, 4])([torch.zeros(1, 4, 1, 1)] * 3)
