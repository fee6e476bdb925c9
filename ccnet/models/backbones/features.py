"""Torchvision's `features`, one nn.Sequential from image to classifier: where its strides end, and what is there."""

from collections.abc import Sequence

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate_to, set_norm_momentum
from ccnet.models.backbones.weights import load_weights, replace_first_conv

FIRST_CONV = "features.0.0"


def prepared_features(
    network: nn.Module,
    architecture: str,
    *,
    last_conv: bool,
    weights: str | None,
    in_channels: int,
    output_stride: int,
    norm_momentum: float,
) -> tuple[nn.Sequential, list[int]]:
    """The blocks of a mobile network of torchvision's, which begin with a convolution's block and end with a 1x1.

    Args:
        network: torchvision's, whole; its blocks are changed in place.
        architecture: torchvision's name for it.
        last_conv: whether the 1x1 convolution is kept.
        weights: null, a tag or a file.
        in_channels: of the image.
        output_stride: 8, 16 or 32.
        norm_momentum: of the running statistics.

    Returns:
        The blocks, and their `stride_ends`.
    """
    features = network.features if last_conv else network.features[:-1]  # type: ignore[index]
    assert isinstance(features, nn.Sequential)
    named = nn.ModuleDict({"features": features})  # as the weights call them
    replace_first_conv(named, FIRST_CONV, in_channels)
    load_weights(named, architecture, weights, first_conv=FIRST_CONV, spare=network.state_dict())
    ends = stride_ends(features)
    dilate_features(features, ends, output_stride)
    set_norm_momentum(features, norm_momentum)
    return features, ends


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
