"""EfficientNet (arXiv:1905.11946) on torchvision, at a fine output stride."""

from typing import Literal

from torch import Tensor, nn

from ccnet.models.backbones.features import channels_at, features_at, prepared_features


class EfficientNet(nn.Module):
    """Features at strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them; torchvision's names.

    Args:
        variant: b0 to b4.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        last_conv: keeps the 1x1 convolution to 1280 (b0) to 1792 (b4) channels before torchvision's classifier; without
            it the last feature is the last block's, with 320 to 448 channels.
        stochastic_depth: the share of images that skip the last block while training; earlier blocks are skipped less,
            in proportion to their depth (arXiv:1603.09382). The paper has 0.2.
        weights: null (random), a tag of torchvision's (DEFAULT, IMAGENET1K_V1) or a file.
        in_channels: of the image; a pretrained first convolution is adapted as `adapt_first_conv` says.
        norm_momentum: of the running statistics.
    """

    def __init__(
        self,
        variant: Literal["b0", "b1", "b2", "b3", "b4"],
        output_stride: Literal[8, 16, 32] = 16,
        last_conv: bool = True,
        stochastic_depth: float = 0.2,
        weights: str | None = None,
        in_channels: int = 3,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        self.architecture = f"efficientnet_{variant}"
        network = get_model(self.architecture, weights=None, stochastic_depth_prob=stochastic_depth)
        self.features, self.ends = prepared_features(
            network, self.architecture, last_conv=last_conv, weights=weights, in_channels=in_channels,
            output_stride=output_stride, norm_momentum=norm_momentum,
        )  # fmt: skip
        self.out_channels = channels_at(self.features, self.ends)
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features from fine to coarse."""
        return features_at(self.features, self.ends, image_BCHW)
