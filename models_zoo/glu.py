"""Hazard: gated units. One layer makes two or more values for each channel of the next.

Coupled, chunked halves: output c and output c+C of the fused layer, with input c of the next.
Coupled, maxout over adjacent pairs: outputs 2c and 2c+1 with input c of the next; the maximum
runs over the pair only, so it is no maximum over channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class ChunkedGate(nn.Module):
    """A gated convolution by `chunk`, then one by `F.glu`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 20, 3, padding=1)
        self.head = classifier(10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        value, gate = self.conv1(x).chunk(2, dim=1)
        x = F.glu(self.conv2(value * torch.sigmoid(gate)), dim=1)
        return self.head(x)


class SwiGlu(nn.Module):
    """A residual feed-forward layer with a fused gate (Shazeer 2020), on (N, tokens, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.fused = nn.Linear(16, 2 * 14)
        self.project = nn.Linear(14, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 8) to (N, tokens, 10)."""
        x = self.embed(x)
        gate, value = self.fused(x).split(14, dim=-1)
        return self.head(x + self.project(F.silu(gate) * value))


class Maxout(nn.Module):
    """The maximum of each adjacent pair of channels (Goodfellow et al. 2013)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.conv = conv_bn_relu(12, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        batch, channels, height, width = x.shape
        x = x.view(batch, channels // 2, 2, height, width).amax(dim=2)
        return self.head(self.conv(x))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("glu", ChunkedGate, _IMAGES, "two halves of a fused convolution are multiplied"),
    ZooModel("glu_swiglu", SwiGlu, inputs((2, 6, 8)), "two halves of a fused linear layer"),
    ZooModel("glu_maxout", Maxout, _IMAGES, "the maximum of adjacent channels, by a view"),
)
