"""MobileNetV3 (arXiv:1905.02244) on torchvision, at a fine output stride."""

from typing import Literal

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate_to, set_norm_momentum
from ccnet.models.backbones.weights import load_weights


class MobileNetV3(nn.Module):
    """Features at strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them.

    Args:
        variant: large or small.
        output_stride: 8 or 16; strides beyond it become dilation. 32 leaves the network as it is.
        last_conv: keeps the 1x1 convolution to 960 or 576 channels before torchvision's classifier; without it the
            last feature is the last block's, with 160 or 96 channels.
        weights: null (random), DEFAULT (torchvision's) or a file.
        norm_momentum: of the running statistics. torchvision's own 0.01 is made for very long training: from random
            weights the statistics lag so far behind that a trained network scores like an untrained one.
    """

    def __init__(
        self,
        variant: Literal["large", "small"],
        output_stride: Literal[8, 16, 32] = 16,
        last_conv: bool = True,
        weights: str | None = None,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        network = get_model(f"mobilenet_v3_{variant}", weights=None)
        network.classifier = nn.Identity()
        load_weights(network, f"mobilenet_v3_{variant}", weights)
        self.stem, *stages = _split_at_strides(network.features if last_conv else network.features[:-1])
        self.stages = nn.ModuleList(stages)
        dilate_to(output_stride, stages[-2:])
        set_norm_momentum(self, norm_momentum)
        self.out_channels = [stage[-1].out_channels for stage in stages]
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, 3, H, W) -> four features from fine to coarse."""
        feature = self.stem(image_BCHW)
        features = []
        for stage in self.stages:
            feature = stage(feature)
            features.append(feature)
        return features


def _split_at_strides(blocks: nn.Sequential) -> list[nn.Sequential]:
    """Groups of blocks that end at strides 2, 4, 8, 16 and 32."""
    groups: list[list[nn.Module]] = []
    for block in blocks:
        strided = any(isinstance(conv, nn.Conv2d) and conv.stride != (1, 1) for conv in block.modules())
        if strided:
            groups.append([])
        groups[-1].append(block)
    return [nn.Sequential(*group) for group in groups]
