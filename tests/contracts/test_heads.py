"""What the segmentor relies on, for every head that YAML offers."""

import pytest
import torch

from ccnet.build import build_part
from tests.contracts.conftest import names, part

CHANNELS = [8, 12, 16, 24]
HEADS = [(group, name.values[0]) for group in ("head", "auxiliary_head") for name in names(group)]


@pytest.mark.parametrize(("group", "name"), HEADS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_logits_and_features(group: str, name: str, size: tuple[int, int]) -> None:
    """Oracle: the shapes; the gradient reaches every parameter that wants one."""
    node = {**part(group, name), "channels": 16}
    head = build_part(node, in_channels=CHANNELS, num_classes=5)
    height, width = size
    sizes = [(4 * height, 4 * width), (2 * height, 2 * width), size, size]
    features = [torch.randn(2, c, *s) for c, s in zip(CHANNELS, sizes, strict=True)]
    head.train(height * width > 1)
    logits, own = head(features)
    assert logits.shape[:2] == (2, 5)
    assert logits.shape[2:] in sizes
    assert own.shape[0] == 2
    if head.training:
        logits.square().sum().backward()
        assert [n for n, p in head.named_parameters() if p.requires_grad and p.grad is None] == []
