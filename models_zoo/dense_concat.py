"""Hazard: dense concatenation. One channel is read at a different offset by every later layer.

Coupled: each layer's output channel with one input channel of every later layer of the block and
of the transition, and with one entry of each batch norm on the way, at the offset that the
concatenation gives it. No layer is coupled with another layer's outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier
from models_zoo.entry import ZooModel, inputs


class DenseLayer(nn.Module):
    """Batch norm, ReLU, convolution over the concatenation of everything before."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map tensors whose channels sum to `in_channels` to (N, growth, H, W)."""
        x = torch.cat(features, dim=1)
        return self.conv(F.relu(self.bn(x)))


class DenseConcat(nn.Module):
    """A dense block of four layers and a transition (DenseNet, Huang et al. 2017)."""

    def __init__(self, stem: int = 10, growth: int = 6, depth: int = 4, out: int = 14) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, padding=1)
        self.layers = nn.ModuleList(DenseLayer(stem + i * growth, growth) for i in range(depth))
        width = stem + depth * growth
        self.transition = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, out, 1), nn.AvgPool2d(2)
        )
        self.head = classifier(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(features))
        return self.head(self.transition(torch.cat(features, dim=1)))


MODELS = (
    ZooModel(
        "dense_concat",
        DenseConcat,
        inputs((2, 3, 16, 16)),
        "one channel sits at a different offset in every later layer",
    ),
)
