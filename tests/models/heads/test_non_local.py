"""The non-local head."""

import torch

from ccnet.models.heads.non_local import NonLocalHead
from ccnet.models.heads.rcca import RCCAHead


def test_is_the_rcca_head_with_another_attention() -> None:
    """Oracle: an RCCA head of one loop with the same weights, whose attention is exchanged for the non-local module."""
    torch.manual_seed(0)
    ours = NonLocalHead([4, 6, 10, 12], num_classes=3, channels=8).eval()
    torch.nn.init.constant_(ours.attention.gamma, 0.5)
    peer = RCCAHead([4, 6, 10, 12], num_classes=3, channels=8, recurrence=1).eval()
    peer.load_state_dict(ours.state_dict())
    peer.attention = ours.attention  # type: ignore[assignment]
    features = [torch.randn(2, 12, 4, 3)]
    for out, expected in zip(ours(features), peer(features), strict=True):
        torch.testing.assert_close(out, expected)


def test_one_position_sees_all() -> None:
    """Oracle: the gradient of one position's attended feature at every other."""
    torch.manual_seed(0)
    head = NonLocalHead([12], num_classes=3, channels=8, reduction_kernel=1).eval()
    torch.nn.init.constant_(head.attention.gamma, 0.5)
    feature = torch.randn(1, 12, 4, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(head([feature])[1][0, :, 1, 2].sum(), feature)
    assert (gradient[0].abs().sum(0) > 0).all()
