"""Hazard: parallel branches of different widths, concatenated; one of them only pools.

Coupled: each branch's last convolution with the next module's inputs, at the offset that the
concatenation gives it; all branches of a module read the same channels. In the reduction the
pooled branch has no layer: it hands the previous module's channels on, under new offsets.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Mixed(nn.Module):
    """Four branches: 1x1; 1x1-3x3; 1x1-5x5; pool-1x1 (GoogLeNet, Szegedy et al. 2015)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1 = conv_bn_relu(in_channels, 8, kernel=1)
        self.branch2 = nn.Sequential(conv_bn_relu(in_channels, 9, kernel=1), conv_bn_relu(9, 10))
        self.branch3 = nn.Sequential(
            conv_bn_relu(in_channels, 5, kernel=1), conv_bn_relu(5, 6, kernel=5)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv_bn_relu(in_channels, 4, kernel=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, 8 + 10 + 6 + 4, H, W)."""
        branches = self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)
        return torch.cat(branches, dim=1)


class Reduction(nn.Module):
    """A strided convolution beside a strided max pool that hands its channels on."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(in_channels, out_channels, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out + in, H / 2, W / 2)."""
        return torch.cat([self.conv(x), self.pool(x)], dim=1)


def inception() -> nn.Module:
    """Return a mixed module, a reduction and another mixed module."""
    return nn.Sequential(
        conv_bn_relu(3, 12), Mixed(12), Reduction(28, 11), Mixed(39), classifier(28)
    )


MODELS = (
    ZooModel(
        "inception",
        inception,
        inputs((2, 3, 16, 16)),
        "branches of different widths, one of them a bare pool, concatenated",
    ),
)
