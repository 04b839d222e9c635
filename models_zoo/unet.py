"""Hazard: long skip connections. A channel is read right away and, much later, at an offset.

Coupled: each encoder's outputs with the next encoder's inputs and with the second part of the
decoder's inputs on the same level; each up-convolution's outputs with the first part. The
transposed convolutions keep their output channels on dim 1 of the weight. The last layer stays.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class UNet(nn.Module):
    """Two levels down, two levels up; the output is as large as the input."""

    def __init__(self) -> None:
        super().__init__()
        self.encode1 = conv_bn_relu(3, 8)
        self.encode2 = conv_bn_relu(8, 12)
        self.bottom = conv_bn_relu(12, 16)
        self.up2 = nn.ConvTranspose2d(16, 10, 2, stride=2)
        self.decode2 = conv_bn_relu(10 + 12, 14)
        self.up1 = nn.ConvTranspose2d(14, 6, 2, stride=2)
        self.decode1 = conv_bn_relu(6 + 8, 9)
        self.head = nn.Conv2d(9, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 2, H, W)."""
        skip1 = self.encode1(x)
        skip2 = self.encode2(F.max_pool2d(skip1, 2))
        x = self.bottom(F.max_pool2d(skip2, 2))
        x = self.decode2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.decode1(torch.cat([self.up1(x), skip1], dim=1))
        return self.head(x)


MODELS = (
    ZooModel(
        "unet",
        UNet,
        inputs((2, 3, 32, 32)),
        "encoder channels are read by the next level and, concatenated, by the decoder",
    ),
)
