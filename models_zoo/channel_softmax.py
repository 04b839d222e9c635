"""Hazard: reductions over channels. What a kept channel computes depends on the removed ones.

Coupled: the channels that share a softmax or a mean live or die with their producers and readers
as ever. But the softmax's sum, the mean's divisor and the local window of a response norm change
when channels leave: these nodes renormalize, and each must be reported or compensated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class SoftmaxGate(nn.Module):
    """Channels weighted by a softmax over channels, from pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 16)
        self.score = nn.Conv2d(16, 16, 1)
        self.conv = conv_bn_relu(16, 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        gate = self.score(F.adaptive_avg_pool2d(x, 1)).softmax(dim=1)
        return self.head(self.conv(x + x * gate))


class MeanGate(nn.Module):
    """Positions weighted by mean and maximum over channels (CBAM, Woo et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 14)
        self.gate = nn.Conv2d(2, 1, 3, padding=1)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return self.head(x * torch.sigmoid(self.gate(pooled)))


def response_norm() -> nn.Module:
    """Return an AlexNet-like stem, with local response norm over five neighbouring channels."""
    norm = nn.LocalResponseNorm(5, alpha=0.5)
    return nn.Sequential(conv_bn_relu(3, 12), norm, conv_bn_relu(12, 16), classifier(16))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("channel_softmax", SoftmaxGate, _IMAGES, "a softmax over channels gates them"),
    ZooModel("channel_softmax_mean", MeanGate, _IMAGES, "mean and max over channels gate all"),
    ZooModel("channel_softmax_lrn", response_norm, _IMAGES, "a norm over neighbouring channels"),
)
