"""Hazard: channels are reordered by indices, held in a buffer or written in the code.

Coupled: a producer's channel with every position at which the index puts it. Where the permuted
tensor is added to itself, whole cycles of the permutation. When channels leave, the buffer must
lose entries and the others must be renumbered. A repeated index makes several readers of one
channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class PermutationBuffer(nn.Module):
    """A permutation of 12 channels in an int64 buffer, between two convolutions."""

    perm: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.register_buffer("perm", torch.tensor([7, 2, 11, 0, 5, 9, 1, 10, 4, 8, 3, 6]))
        self.conv = conv_bn_relu(12, 16)
        self.head = classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)[:, self.perm]
        return self.head(self.conv(x))


class PermutationCycles(nn.Module):
    """The tensor plus its permuted self: a 3-cycle, a 2-cycle, a 4-cycle and a fixed point."""

    perm: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 10)
        self.register_buffer("perm", torch.tensor([1, 2, 0, 4, 3, 6, 7, 8, 5, 9]))
        self.conv = conv_bn_relu(10, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        x = x + torch.index_select(x, 1, self.perm)
        return self.head(self.conv(x))


class LiteralIndex(nn.Module):
    """A list of channels in the code, which reorders, repeats one and leaves two out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.conv = conv_bn_relu(7, 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)[:, [2, 0, 1, 6, 5, 2, 7]]
        return self.head(self.conv(x))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("index_channels", PermutationBuffer, _IMAGES, "a permutation buffer is an index"),
    ZooModel("index_channels_cycles", PermutationCycles, _IMAGES, "a tensor plus its permutation"),
    ZooModel("index_channels_literal", LiteralIndex, _IMAGES, "a list of indices with a repeat"),
)
