"""Hazard: neighbourhoods as channels. `unfold` makes channels times taps of a map.

Coupled: a channel with all its taps, which are consecutive columns of what reads them. Local
attention over unfolded neighbourhoods: the taps are the axis of the softmax, and stay. `fold` adds
taps up again, so a channel of its result is as many consecutive inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class UnfoldedConv(nn.Module):
    """A convolution as a linear layer on unfolded patches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.linear = nn.Linear(8 * 9, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        patches = F.unfold(x, 3, padding=1).transpose(1, 2)
        out = F.relu(self.linear(patches)).transpose(1, 2)
        return self.head(out.unflatten(2, (x.shape[2], x.shape[3])))


class LocalAttention(nn.Module):
    """Each position looks at its 3x3 neighbourhood (Ramachandran et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.q, self.k, self.v = nn.Conv2d(12, 16, 1), nn.Conv2d(12, 16, 1), nn.Conv2d(12, 20, 1)
        self.head = classifier(20)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        batch, _, height, width = x.shape
        q = self.q(x).flatten(2).unsqueeze(2)
        k = F.unfold(self.k(x), 3, padding=1).view(batch, 16, 9, height * width)
        v = F.unfold(self.v(x), 3, padding=1).view(batch, 20, 9, height * width)
        weights = (q * k).sum(dim=1, keepdim=True).mul(16**-0.5).softmax(dim=2)
        return self.head((weights * v).sum(dim=2).view(batch, -1, height, width))


class Folded(nn.Module):
    """Patches of 4x4 positions, a layer on each, and `fold` back to a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 6)
        self.linear = nn.Linear(6 * 16, 5 * 16)
        self.head = classifier(5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to (N, 10)."""
        x = F.unfold(self.stem(x), 4, stride=4).transpose(1, 2)
        x = torch.tanh(self.linear(x)).transpose(1, 2)
        return self.head(F.fold(x, (16, 16), 4, stride=4))


class SlidingWindows(nn.Module):
    """`Tensor.unfold`: windows of a sequence as a new last axis, flattened after the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 3, padding=1)
        self.linear = nn.Linear(8 * 4, 14)
        self.head = nn.Linear(14, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, L) to (N, windows, 10)."""
        windows = self.stem(x).unfold(2, 4, 2)
        return self.head(torch.relu(self.linear(windows.transpose(1, 2).flatten(2))))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("unfolded", UnfoldedConv, _IMAGES, "channels times taps are read by a linear layer"),
    ZooModel("unfolded_attention", LocalAttention, _IMAGES, "taps are looked at one by one"),
    ZooModel("unfolded_fold", Folded, _IMAGES, "patches are put back by fold"),
    ZooModel("unfolded_windows", SlidingWindows, inputs((2, 3, 20)), "windows of a sequence"),
)
