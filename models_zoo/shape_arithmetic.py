"""Hazard: the number of channels is read as a number, or written down as a literal.

Coupled: as ever, producers with readers; what is special are the numbers. A scale computed from
`x.shape[1]` must stay the original's; a view by `x.size(1)` must become the new one; a literal
in `reshape` or `expand` must be rewritten, while the batch stays dynamic; zeros made by
`new_zeros` fill channels that no layer produces and that only their reader can lose.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class ScaledAttention(nn.Module):
    """Attention among positions, scaled by the channel count to the power of minus a half."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 16, stride=2)
        self.head = classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        tokens = x.view(x.size(0), x.size(1), -1)
        scores = tokens.transpose(1, 2) @ tokens * x.shape[1] ** -0.5
        mixed = tokens @ scores.softmax(dim=1)
        return self.head(x + mixed.view(x.shape))


class LiteralReshape(nn.Module):
    """Tokens of 12 channels by a literal reshape, with an expanded learned token added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        self.fc = nn.Linear(12, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to (N, 10)."""
        x = self.stem(x).permute(0, 2, 3, 1).reshape(-1, 64, 12)
        x = torch.cat([self.token.expand(x.shape[0], -1, 12), x], dim=1)
        x = F.relu(self.fc(x))
        return self.head(x.mean(dim=1))


class FilledChannels(nn.Module):
    """Four zero channels appended by `new_zeros`, as a cheap way to widen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.conv = nn.Conv2d(12, 12, 3, padding=1)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        zeros = x.new_zeros(x.size(0), 12 - x.size(1), x.size(2), x.size(3))
        wide = torch.cat([x, zeros], dim=1)
        return self.head(F.relu(wide + self.conv(wide)))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("shape_arithmetic", ScaledAttention, _IMAGES, "a scale computed from x.shape[1]"),
    ZooModel("shape_arithmetic_literal", LiteralReshape, _IMAGES, "literal reshape and expand"),
    ZooModel("shape_arithmetic_fill", FilledChannels, _IMAGES, "zero channels from new_zeros"),
)
