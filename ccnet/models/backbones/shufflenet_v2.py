"""ShuffleNetV2 (arXiv:1807.11164) on torchvision, at a fine output stride."""

from typing import Literal

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate_to, set_norm_momentum
from ccnet.models.backbones.weights import load_weights, replace_first_conv


class ShuffleNetV2(nn.Module):
    """Features at strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them; torchvision's names.

    Args:
        width: x0_5, x1_0, x1_5 or x2_0, as torchvision calls the multiples of the channels.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        last_conv: keeps `conv5`, the 1x1 convolution to 1024 channels (2048 for x2_0) before torchvision's classifier;
            without it the last feature is that of `stage4`, with 192, 464, 704 or 976 channels.
        weights: null (random), a tag of torchvision's (DEFAULT, IMAGENET1K_V1) or a file.
        in_channels: of the image; a pretrained first convolution is adapted as `adapt_first_conv` says.
        norm_momentum: of the running statistics.
    """

    def __init__(
        self,
        width: Literal["x0_5", "x1_0", "x1_5", "x2_0"] = "x1_0",
        output_stride: Literal[8, 16, 32] = 16,
        last_conv: bool = True,
        weights: str | None = None,
        in_channels: int = 3,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        self.architecture = f"shufflenet_v2_{width}"
        network = get_model(self.architecture, weights=None)
        self.conv1, self.maxpool = network.conv1, network.maxpool
        self.stage2, self.stage3, self.stage4 = network.stage2, network.stage3, network.stage4
        self.conv5 = network.conv5 if last_conv else nn.Identity()
        replace_first_conv(self, "conv1.0", in_channels)
        load_weights(self, self.architecture, weights, first_conv="conv1.0", spare=network.state_dict())
        dilate_to(output_stride, [self.stage3, self.stage4])
        set_norm_momentum(self, norm_momentum)
        first, *middle, stage4, conv5 = network._stage_out_channels
        self.out_channels = [first, *middle, conv5 if last_conv else stage4]
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, in_channels, H, W) -> four features from fine to coarse."""
        at_4 = self.maxpool(self.conv1(image_BCHW))
        at_8 = self.stage2(at_4)
        at_16 = self.stage3(at_8)
        return [at_4, at_8, at_16, self.conv5(self.stage4(at_16))]
