"""Hazard: bottleneck blocks, whose two inner widths are free and whose outer width is shared.

Coupled: the stream between blocks, as in `residual`. Each block's first 1x1 convolution with the
inputs of its 3x3; the 3x3's outputs with the inputs of the last 1x1. In the grouped variant
(ResNeXt) the 3x3 has four groups: each group must lose equally many inputs, and equally many
outputs, and the two widths remain separate choices.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Bottleneck(nn.Module):
    """1x1, 3x3 (with `groups`), 1x1, added to the input or to its projection."""

    def __init__(self, in_channels: int, width: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(in_channels, width, kernel=1)
        self.conv = conv_bn_relu(width, width, groups=groups)
        self.expand = nn.Sequential(
            nn.Conv2d(width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        out = self.expand(self.conv(self.reduce(x)))
        return F.relu(out + self.shortcut(x))


def bottleneck(groups: int = 1) -> nn.Module:
    """Return two bottleneck blocks between a convolution and a classifier."""
    blocks = Bottleneck(8, 16, 24, groups), Bottleneck(24, 16, 24, groups)
    return nn.Sequential(conv_bn_relu(3, 8), *blocks, classifier(24))


def grouped() -> nn.Module:
    """Return `bottleneck` with four groups in each 3x3 convolution."""
    return bottleneck(groups=4)


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("bottleneck", bottleneck, _IMAGES, "two free inner widths, one shared outer width"),
    ZooModel(
        "bottleneck_grouped",
        grouped,
        _IMAGES,
        "the 3x3 convolution has four groups, each of which must shrink equally",
    ),
)
