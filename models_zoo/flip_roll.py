"""Hazard: channels are reversed, rotated, sliced with a stride or counted from the end.

Coupled: a producer's channel with the position at which it is read after the move. Where a
tensor is added to its moved self, whole orbits: c with its mirror image, or with all channels a
multiple of the shift away. A roll's shift, a slice's step and its ends are literals that mean
something else once channels are gone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Moved(nn.Module):
    """Flip before one convolution, roll before the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(3, 12)
        self.conv2 = conv_bn_relu(12, 16)
        self.conv3 = conv_bn_relu(16, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.conv2(torch.flip(self.conv1(x), [1]))
        x = self.conv3(torch.roll(x, 5, 1))
        return self.head(x)


class MovedSum(nn.Module):
    """Add the flipped tensor to itself, and later the tensor rolled by a third of its width."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(3, 8)
        self.conv2 = conv_bn_relu(8, 12)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.conv1(x)
        x = self.conv2(x + x.flip(1))
        return self.head(x + x.roll(4, 1))


class Sliced(nn.Module):
    """Read every other channel, the last four, and all but the last four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 16)
        self.even = nn.Conv2d(8, 10, 3, padding=1)
        self.odd = nn.Conv2d(8, 10, 3, padding=1)
        self.tail = nn.Conv2d(4, 10, 1)
        self.front = nn.Conv2d(12, 10, 1)
        self.head = classifier(10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        out = self.even(x[:, ::2]) + self.odd(x[:, 1::2])
        out = out + self.tail(x[:, -4:]) + self.front(x[:, :-4])
        return self.head(torch.relu(out))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("flip_roll", Moved, _IMAGES, "flip and roll between convolutions"),
    ZooModel("flip_roll_sum", MovedSum, _IMAGES, "a tensor plus its flipped or rolled self"),
    ZooModel("flip_roll_slices", Sliced, _IMAGES, "strided and negative slices of channels"),
)
