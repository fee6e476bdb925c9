"""Torchvision's `features`, one nn.Sequential from image to classifier: where its strides end, and what is there."""

from collections.abc import Sequence

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate_to


def stride_ends(features: nn.Sequential) -> list[int]:
    """The indices of the last modules at strides 4, 8, 16 and 32."""
    ends, stride = {}, 1
    for index, module in enumerate(features):
        stride *= 2 if any(_halves(each) for each in module.modules()) else 1
        ends[stride] = index
    return [ends[stride] for stride in (4, 8, 16, 32)]


def _halves(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.MaxPool2d)) and module.stride not in (1, (1, 1))


def channels_at(features: nn.Sequential, ends: Sequence[int]) -> list[int]:
    """The channels behind modules: those of the last convolution up to there."""
    return [_convolutions(features[: end + 1])[-1].out_channels for end in ends]


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [each for each in module.modules() if isinstance(each, nn.Conv2d)]


def dilate_features(features: nn.Sequential, ends: Sequence[int], output_stride: int) -> None:
    """Turns the strides beyond `output_stride` (8, 16 or 32) into dilation, in place.

    Raises:
        ValueError: another output stride.
    """
    _, end_8, end_16, _ = ends
    dilate_to(output_stride, [features[end_8 + 1 : end_16 + 1], features[end_16 + 1 :]])


def features_at(features: nn.Sequential, ends: Sequence[int], image_BCHW: Tensor) -> list[Tensor]:
    """Runs all modules and keeps what those at `ends` give."""
    feature, kept = image_BCHW, []
    for index, module in enumerate(features):
        feature = module(feature)
        if index in ends:
            kept.append(feature)
    return kept
