"""The whole network: an image in, logits out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Backbone(Protocol):
    """What the heads need to know: the channels of each feature, and the stride of the last one."""

    out_channels: Sequence[int]
    output_stride: int

    def __call__(self, image_BCHW: Tensor) -> list[Tensor]:
        """A normalised image -> features from fine to coarse."""
        ...


@dataclass
class SegmentorOutput:
    """Logits (B, num_classes, h, w) below the image's size; the auxiliary logits and the head's features (B, D, h, w)
    are there while training only."""

    logits: Tensor
    auxiliary: Tensor | None = None
    features: Tensor | None = None


class Preprocess(nn.Module):
    """The input contract, kept with the weights: RGB 0..255, uint8 or float, becomes what the backbone was made for."""

    mean: Tensor
    std: Tensor
    order: Tensor

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        channels = list(range(len(mean)))
        self.register_buffer("order", torch.tensor(channels if channel_order == "rgb" else channels[::-1]))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) RGB 0..255 -> normalised, in the backbone's channel order."""
        return (image_BCHW.to(self.mean.dtype).index_select(1, self.order) - self.mean) / self.std


class Segmentor(nn.Module):
    """Preprocess -> backbone -> head, with an auxiliary head while training.

    `align_corners` says how whoever upsamples the logits has to do it.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        backbone: nn.Module,
        head: nn.Module,
        auxiliary_head: nn.Module | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.align_corners = align_corners

    def forward(self, image_BCHW: Tensor) -> SegmentorOutput:
        """(B, 3, H, W) RGB 0..255, any H and W -> logits at the head's stride."""
        features = self.backbone(self.preprocess(image_BCHW))
        logits, head_features = self.head(features)
        if not self.training:
            return SegmentorOutput(logits)
        auxiliary = self.auxiliary_head(features)[0] if self.auxiliary_head is not None else None
        return SegmentorOutput(logits, auxiliary, head_features)
