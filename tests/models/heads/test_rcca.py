"""The RCCA head: shared loops, sizes, options."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ccnet.models.heads.rcca import RCCAHead
from ccnet.models.ops.criss_cross.composition import compose

IN_CHANNELS = (4, 6, 10, 12)
SIZES = ((13, 9), (7, 5), (4, 3), (4, 3))
Options = dict[str, object]


def features() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = zip(IN_CHANNELS, SIZES, strict=True)
    return [torch.randn(2, channels, *size, generator=generator) for channels, size in sizes]


def build(gamma: float = 0.8, **options: object) -> RCCAHead:
    """A small head in eval mode; the same seed gives the same weights, the attention matters."""
    torch.manual_seed(0)
    head = RCCAHead(IN_CHANNELS, **{"num_classes": 3, "channels": 8, **options}).eval()  # type: ignore[arg-type]
    torch.nn.init.constant_(head.attention.gamma, gamma)
    return head


@pytest.mark.parametrize("recurrence", [0, 1, 2, 3])
@pytest.mark.parametrize("fusion_convs", [0, 1, 2])
def test_equals_the_figure_of_the_paper_by_hand(recurrence: int, fusion_convs: int) -> None:
    """Oracle: Fig. 2-3: reduce, loop R times through the *one* attention, convolve, concatenate, fuse, classify."""
    head, feature = build(recurrence=recurrence, fusion_convs=fusion_convs), features()[-1]
    looped = head.reduction(feature)
    for _ in range(recurrence):
        looped = head.attention(looped)
    joined = torch.cat([feature, head.fusion.context(looped)], dim=1)
    assert len(head.fusion.convs) == fusion_convs
    logits, out = head(features())
    torch.testing.assert_close(out, looped)
    torch.testing.assert_close(logits, head.classifier(head.fusion.convs(joined)))


def test_loops_share_their_weights_and_matter() -> None:
    """Oracle: the same parameters whatever R, and another result for each R."""
    heads = [build(recurrence=r) for r in (0, 1, 2)]
    assert heads[1].state_dict().keys() == heads[2].state_dict().keys()
    logits = [head(features())[0] for head in heads]
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


def test_without_loops_the_attention_is_ignored() -> None:
    """Oracle: the result does not follow gamma, and no gradient reaches the attention."""
    head = build(recurrence=0)
    logits = head(features())[0]
    assert torch.equal(logits, build(recurrence=0, gamma=5.0)(features())[0])
    logits.sum().backward()
    assert all(parameter.grad is None for parameter in head.attention.parameters())
    assert head.reduction[0].weight.grad is not None


@pytest.mark.parametrize("recurrence", [0, 1, 2])
def test_what_wants_a_gradient_gets_one(recurrence: int) -> None:
    """Oracle: the rule of DistributedDataParallel, which stops at a parameter without gradient."""
    head = build(recurrence=recurrence)
    head(features())[0].sum().backward()
    wanted = {name for name, parameter in head.named_parameters() if parameter.requires_grad}
    assert wanted == {name for name, parameter in head.named_parameters() if parameter.grad is not None}
    assert ("attention.gamma" in wanted) == (recurrence > 0)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, SIZES[-1]),
        ({"skip_features": [1], "decoder_channels": [5]}, SIZES[1]),
        ({"skip_features": [1, 0], "decoder_channels": [5, 7], "skip_channels": 2}, SIZES[0]),
        ({"skip_features": [0], "decoder_channels": [5], "decoder_separable": True, "fusion_convs": 0}, SIZES[0]),
    ],
)
def test_logits_have_the_size_of_the_finest_feature_used(options: Options, size: tuple[int, int]) -> None:
    """Oracle: the size of the last backbone feature, or of the last skip; the attention's output stays coarse."""
    logits, attended = build(**options)(features())
    assert logits.shape == (2, 3, *size)
    assert attended.shape == (2, 8, *SIZES[-1])


@pytest.mark.parametrize("kernel", [1, 3])
def test_reduction_kernel(kernel: int) -> None:
    """Oracle: convolution, batch norm (identity when new) and ReLU from torch.nn.functional."""
    head, feature = build(reduction_kernel=kernel, recurrence=0), features()[-1]
    weight = head.reduction[0].weight
    assert weight.shape == (8, 12, kernel, kernel)
    expected = F.relu(F.conv2d(feature, weight, padding=kernel // 2) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(head(features())[1], expected)


def test_embedding_projects_the_attention_output() -> None:
    """Oracle: a 1x1 convolution of the output of the same head without embedding."""
    plain, embedding = build(), build(embedding_channels=5)
    attended = plain(features())[1]
    assert embedding.embedding is not None
    embedding.load_state_dict(plain.state_dict(), strict=False)
    expected = F.conv2d(attended, embedding.embedding.weight, embedding.embedding.bias)
    torch.testing.assert_close(embedding(features())[1], expected)
    assert expected.shape[1] == 5


def test_another_number_of_loops_for_one_call() -> None:
    """Oracle: a head built with that many loops, and the same weights."""
    head = build(recurrence=1)
    for recurrence in (0, 1, 2, 3):
        torch.testing.assert_close(head(features(), recurrence)[0], build(recurrence=recurrence)(features())[0])
    torch.testing.assert_close(head(features())[0], build(recurrence=1)(features())[0])
    with pytest.raises(ValueError, match="recurrence must be >= 0, got -1"):
        head(features(), -1)


def test_fusion_kernel_of_one_keeps_positions_apart() -> None:
    """Oracle: without attention the gradient of one position's logits is 0 at every other."""
    head = build(recurrence=0, reduction_kernel=1, fusion_kernel=1, fusion_convs=2)
    feature = features()[-1].requires_grad_()
    (gradient,) = torch.autograd.grad(head([feature])[0][0, :, 1, 2].sum(), feature)
    seen = torch.zeros(2, *SIZES[-1], dtype=torch.bool)
    seen[0, 1, 2] = True
    assert torch.equal(gradient.abs().sum(1) > 0, seen)


def test_multi_scale_adds_the_attention_of_pooled_features() -> None:
    """Oracle: average pooling by hand, whose last, cut-off cells average what they have; and bilinear interpolation."""
    head, plain = build(recurrence=1, multi_scale=[1.0, 0.5]), build(recurrence=1)
    reduced = plain.reduction(features()[-1])
    padded = F.pad(reduced, (0, 1))  # 4 x 3 -> 4 x 4
    sums = padded[:, :, 0::2, 0::2] + padded[:, :, 0::2, 1::2] + padded[:, :, 1::2, 0::2] + padded[:, :, 1::2, 1::2]
    pooled = sums / torch.tensor([4.0, 2.0])
    added = F.interpolate(plain.attention(pooled) - pooled, SIZES[-1], mode="bilinear")
    torch.testing.assert_close(head(features())[1], plain.attention(reduced) + added)
    assert head.state_dict().keys() == plain.state_dict().keys()


def test_attention_on_request() -> None:
    """Oracle: the attention module asked loop by loop; that the composition is right is the operator's own test."""
    head = build()
    first, second = head.attention_maps(features())
    reduced = head.reduction(features()[-1])
    torch.testing.assert_close(first, head.attention.attention(reduced))
    torch.testing.assert_close(second, head.attention.attention(head.attention(reduced)))
    torch.testing.assert_close(head.attended_by(features(), 1, 2), compose([first, second], 1, 2))
    with pytest.raises(ValueError, match="without a loop of attention"):
        build(recurrence=0).attended_by(features(), 1, 2)


def test_the_leaky_form_of_the_official_code() -> None:
    """Oracle: the activations of the official head: after the reduction, the attention and the fusion."""
    slopes = [
        layer.negative_slope for layer in build(activation="leaky_relu").modules() if hasattr(layer, "negative_slope")
    ]
    assert slopes == [0.01] * 3


def test_batches_are_independent() -> None:
    """Oracle: one image at a time."""
    head = build(skip_features=[0], decoder_channels=[5])
    single = torch.cat([head([feature[i : i + 1] for feature in features()])[0] for i in range(2)])
    torch.testing.assert_close(head(features())[0], single)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recurrence": -1}, "recurrence and fusion_convs must be >= 0, got -1 and 1"),
        ({"fusion_convs": -2}, "recurrence and fusion_convs must be >= 0, got 2 and -2"),
        ({"skip_features": [0]}, "must be as many"),
        ({"decoder_channels": [4]}, "must be as many"),
        ({"channels": 12}, "multiple of reduction"),
        ({"activation": "gelu"}, "activation must be one of relu, leaky_relu, got gelu"),
        ({"backend": "cuda"}, "backend must be one of auto, reference"),
        ({"multi_scale": [0.5]}, r"must hold 1.0 and other fractions 1 / n, .* got \[0.5\]"),
        ({"multi_scale": [1.0, 0.3]}, "other fractions 1 / n"),
        ({"multi_scale": [1.0, 2.0]}, "other fractions 1 / n"),
        ({"multi_scale": [1.0, 0.0]}, "other fractions 1 / n"),
        ({"multi_scale": [1.0, 1.0]}, "other fractions 1 / n"),
    ],
)
def test_options_that_make_no_head(options: Options, message: str) -> None:
    """Oracle: the documented ValueErrors."""
    with pytest.raises(ValueError, match=message):
        build(**options)
