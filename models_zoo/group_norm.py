"""Hazard: norms that are computed from the channels themselves.

Coupled: norm weight and bias with the channel they scale. Group norm: all groups must lose
equally many channels, and its statistics change when they do. Layer norm over channels-last:
the same with one group, and `normalized_shape` must follow. Instance norm works on each channel
alone: it changes nothing else, but its running statistics must follow.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier
from models_zoo.entry import ZooModel, inputs


class ChannelsLastNorm(nn.Module):
    """A ConvNeXt block (Liu et al. 2022): layer norm and linear layers with channels last."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.project = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        out = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        out = self.project(F.gelu(self.expand(out)))
        return x + out.permute(0, 3, 1, 2)


def _normed(first: nn.Module, second: nn.Module) -> nn.Module:
    """Return two convolutions, 3 to 16 to 24 channels, each followed by its norm."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        first,
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        second,
        nn.ReLU(),
        classifier(24),
    )


def group() -> nn.Module:
    """Return group norms with four groups of 4 channels and three groups of 8."""
    return _normed(nn.GroupNorm(4, 16), nn.GroupNorm(3, 24))


def instance() -> nn.Module:
    """Return instance norms, the first with weights and running statistics, the second bare."""
    tracked = nn.InstanceNorm2d(16, affine=True, track_running_stats=True)
    return _normed(tracked, nn.InstanceNorm2d(24))


def layer() -> nn.Module:
    """Return two ConvNeXt blocks over 16 channels."""
    blocks = ChannelsLastNorm(16, 24), ChannelsLastNorm(16, 20)
    return nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), *blocks, classifier(16))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("group_norm", group, _IMAGES, "statistics over groups of channels"),
    ZooModel("group_norm_instance", instance, _IMAGES, "per-channel running statistics"),
    ZooModel("group_norm_layer", layer, inputs((2, 3, 32, 32)), "layer norm over channels last"),
)
