"""Hazard: squeeze-and-excitation. A side branch computes one factor per channel of the trunk.

Coupled: the trunk's channels, the inputs of the branch's first layer and the outputs of its
last layer (which are multiplied with the trunk). The branch's inner width is free. The gate is
a sigmoid: a removed channel's factor is not zero, so it must leave with its channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class ConvGate(nn.Module):
    """The branch as 1x1 convolutions on a 1x1 map."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of (N, channels, H, W)."""
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(gate))))
        return x * gate


class LinearGate(nn.Module):
    """The branch as linear layers on a vector that is viewed back as a map."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of (N, channels, H, W)."""
        batch, channels, _, _ = x.size()
        gate = F.adaptive_avg_pool2d(x, 1).view(batch, channels)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(gate))))
        return x * gate.view(batch, channels, 1, 1).expand_as(x)


def network(gate: nn.Module) -> nn.Module:
    """Return a 16-channel trunk with `gate` in its middle."""
    return nn.Sequential(conv_bn_relu(3, 16), gate, conv_bn_relu(16, 12), classifier(12))


def conv_gate() -> nn.Module:
    """Return the network whose gate is made of convolutions."""
    return network(ConvGate(16, 8))


def linear_gate() -> nn.Module:
    """Return the network whose gate is made of linear layers."""
    return network(LinearGate(16, 8))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("squeeze_excite", conv_gate, _IMAGES, "a branch of 1x1 convolutions gates the trunk"),
    ZooModel(
        "squeeze_excite_linear",
        linear_gate,
        _IMAGES,
        "a branch of linear layers gates the trunk, through views with the channel count",
    ),
)
