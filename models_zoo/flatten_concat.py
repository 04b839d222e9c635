"""Hazard: flattening what was joined. Which columns belong to a channel depends on the order.

Coupled: every channel of each branch with its columns of the linear layer. Concatenate, then
flatten: 16 columns in a row. Flatten, then concatenate: as many columns as the branch has
positions. Flatten channels-last: every C-th column. Stack two branches, then flatten: the
branches keep separate columns, yet share one axis and so must lose the same channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class FlattenConcat(nn.Module):
    """Concatenate 6 and 10 channels of 4x4 positions, then flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(conv_bn_relu(3, 6), nn.AdaptiveAvgPool2d(4))
        self.right = nn.Sequential(conv_bn_relu(3, 10, kernel=5), nn.AdaptiveAvgPool2d(4))
        self.fc = nn.Linear((6 + 10) * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.fc(x.flatten(1))


class ConcatFlattened(nn.Module):
    """Flatten 6 channels of 4x4 positions and 10 of 2x2, then concatenate."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(conv_bn_relu(3, 6), nn.AdaptiveAvgPool2d(4))
        self.right = nn.Sequential(conv_bn_relu(3, 10), nn.AdaptiveAvgPool2d(2))
        self.fc = nn.Linear(6 * 16 + 10 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        flat = [self.left(x).flatten(1), self.right(x).flatten(1)]
        return self.fc(torch.cat(flat, dim=1))


class ChannelsLastFlatten(nn.Module):
    """Move the channels last before flattening, as in code ported from TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(3, 12), nn.AdaptiveAvgPool2d(4))
        self.fc = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.body(x).permute(0, 2, 3, 1).flatten(1)
        return self.fc(x)


class StackFlatten(nn.Module):
    """Stack two branches of 8 channels on a new axis after the channels, then flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(conv_bn_relu(3, 8), nn.AdaptiveAvgPool2d(2))
        self.right = nn.Sequential(conv_bn_relu(3, 8, kernel=5), nn.AdaptiveAvgPool2d(2))
        self.fc = nn.Linear(8 * 2 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = torch.stack([self.left(x), self.right(x)], dim=2)
        return self.fc(x.flatten(1))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("flatten_concat", FlattenConcat, _IMAGES, "cat, then flatten"),
    ZooModel("flatten_concat_late", ConcatFlattened, _IMAGES, "flatten two sizes, then cat"),
    ZooModel("flatten_concat_nhwc", ChannelsLastFlatten, _IMAGES, "flatten with channels last"),
    ZooModel("flatten_concat_stack", StackFlatten, _IMAGES, "stack two branches, then flatten"),
)
