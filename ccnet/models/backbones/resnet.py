"""ResNet (arXiv:1512.03385) on torchvision, at a fine output stride."""

from typing import Literal

from torch import Tensor, nn

from ccnet.models.backbones.dilation import dilate_to, set_norm_momentum
from ccnet.models.backbones.weights import load_weights


class ResNet(nn.Module):
    """Features of the four stages: strides 4 and 8, then 16 and 32 or what `output_stride` leaves of them.

    Args:
        depth: 18, 50 or 101.
        output_stride: 8, 16 or 32; strides beyond it become dilation.
        weights: null (random), DEFAULT (torchvision's) or a file.
        norm_momentum: of the running statistics.
    """

    def __init__(
        self,
        depth: Literal[18, 50, 101],
        output_stride: Literal[8, 16, 32] = 8,
        weights: str | None = None,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model

        network = get_model(f"resnet{depth}", weights=None)
        network.fc = nn.Identity()
        load_weights(network, f"resnet{depth}", weights)
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        dilate_to(output_stride, [network.layer3, network.layer4])
        set_norm_momentum(self, norm_momentum)
        expansion = network.layer1[0].expansion
        self.out_channels = [64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion]
        self.output_stride = output_stride

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image (B, 3, H, W) -> four features from fine to coarse."""
        feature = self.stem(image_BCHW)
        features = []
        for stage in self.stages:
            feature = stage(feature)
            features.append(feature)
        return features
