"""Hazard: channel shuffle. Channels are interleaved, so positions and channels part ways.

Coupled, ShuffleNet v2: half of a unit's input passes untouched, the other half is computed; they
are concatenated and interleaved, and the next unit splits the result in the middle. A channel's
readers are found only by following the permutation, and both halves must stay equally long.
Coupled, ShuffleNet v1: grouped 1x1 convolutions around a shuffle and a depthwise convolution;
every group must lose equally many channels on both sides of the shuffle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Shuffle(nn.Module):
    """Channel shuffle written as view, transpose, view."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Interleave the `groups` blocks of channels of (N, C, H, W)."""
        batch, channels, height, width = x.size()
        x = x.view(batch, self.groups, channels // self.groups, height, width)
        return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class UnitV2(nn.Module):
    """ShuffleNet v2's unit (Ma et al. 2018): pass one half on, compute the other, shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            conv_bn_relu(half, half, kernel=1),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            conv_bn_relu(half, half, kernel=1),
        )
        self.shuffle = Shuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        passed, computed = x.chunk(2, dim=1)
        return self.shuffle(torch.cat([passed, self.branch(computed)], dim=1))


class UnitV1(nn.Module):
    """ShuffleNet v1's unit (Zhang et al. 2018): grouped 1x1, shuffle, depthwise, grouped 1x1."""

    def __init__(self, channels: int, width: int, groups: int, shuffle: nn.Module) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(channels, width, kernel=1, groups=groups)
        self.shuffle = shuffle
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.expand = nn.Conv2d(width, channels, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        out = self.expand(self.depthwise(self.shuffle(self.reduce(x))))
        return F.relu(x + out)


def shufflenet_v2() -> nn.Module:
    """Return two v2 units over 16 channels."""
    return nn.Sequential(conv_bn_relu(3, 16), UnitV2(16), UnitV2(16), classifier(16))


def shufflenet_v1() -> nn.Module:
    """Return a v1 unit with three groups, shuffled by views."""
    return nn.Sequential(conv_bn_relu(3, 24), UnitV1(24, 12, 3, Shuffle(3)), classifier(24))


def shufflenet_v1_builtin() -> nn.Module:
    """Return a v1 unit with three groups, shuffled by `nn.ChannelShuffle`."""
    unit = UnitV1(24, 12, 3, nn.ChannelShuffle(3))
    return nn.Sequential(conv_bn_relu(3, 24), unit, classifier(24))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("channel_shuffle", shufflenet_v2, _IMAGES, "chunk, cat and interleave, twice"),
    ZooModel(
        "channel_shuffle_grouped",
        shufflenet_v1,
        _IMAGES,
        "grouped 1x1 convolutions on both sides of a shuffle, under a residual",
    ),
    ZooModel(
        "channel_shuffle_builtin",
        shufflenet_v1_builtin,
        _IMAGES,
        "the same with nn.ChannelShuffle in place of the views",
    ),
)
