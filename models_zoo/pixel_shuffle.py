"""Hazard: moving space into channels and back. Four positions of a map become four channels.

Coupled, space to depth: a producer's channel c with channels 4c .. 4c+3 of what reads the
result. Coupled, depth to space: four consecutive producer channels are one channel afterwards
and live or die together. In the focus variant the four sub-images are concatenated, so channel c
is found at c, c+C, c+2C and c+3C instead.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class DepthSpace(nn.Module):
    """`pixel_unshuffle` in the encoder, `nn.PixelShuffle` in the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 6)
        self.body = conv_bn_relu(24, 16)
        self.widen = nn.Conv2d(16, 32, 1)
        self.up = nn.PixelShuffle(2)
        self.head = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape, for even H and W."""
        x = F.pixel_unshuffle(self.stem(x), 2)
        x = F.relu(self.up(self.widen(self.body(x))))
        return self.head(x)


class Focus(nn.Module):
    """Space to depth as a concatenation of strided slices (YOLOv5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 6)
        self.body = conv_bn_relu(24, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10), for even H and W."""
        x = self.stem(x)
        even, odd = x[:, :, ::2], x[:, :, 1::2]
        x = torch.cat([even[..., ::2], odd[..., ::2], even[..., 1::2], odd[..., 1::2]], dim=1)
        return self.head(self.body(x))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("pixel_shuffle", DepthSpace, _IMAGES, "pixel_unshuffle, then PixelShuffle"),
    ZooModel("pixel_shuffle_focus", Focus, _IMAGES, "space to depth by strided slices and cat"),
)
