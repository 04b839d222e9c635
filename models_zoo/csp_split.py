"""Hazard: cross-stage partial blocks. A tensor is split, one part worked on, all parts rejoined.

Coupled: the last part's channels with those of every bottleneck added to it; all parts with the
final convolution's inputs, at their offsets. Removing a channel of one part moves the border at
which the tensor is split; `chunk` can express this only if both parts lose equally many.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Bottleneck(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(channels, hidden), conv_bn_relu(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.body(x)


class C2f(nn.Module):
    """YOLOv8's block: chunk in two, a chain of bottlenecks on the last part, cat all parts."""

    def __init__(self, in_channels: int, part: int, out_channels: int, depth: int = 2) -> None:
        super().__init__()
        self.entry = conv_bn_relu(in_channels, 2 * part, kernel=1)
        self.blocks = nn.ModuleList(Bottleneck(part, part // 2 + 1) for _ in range(depth))
        self.exit = conv_bn_relu((2 + depth) * part, out_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        first, last = self.entry(x).chunk(2, dim=1)
        parts = [first, last]
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.exit(torch.cat(parts, dim=1))


class UnevenSplit(nn.Module):
    """Split into parts of given sizes, work on the last, cat it before the first."""

    def __init__(self, in_channels: int, sizes: tuple[int, int], out_channels: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.entry = conv_bn_relu(in_channels, sum(sizes), kernel=1)
        self.block = Bottleneck(sizes[1], 7)
        self.exit = conv_bn_relu(sum(sizes), out_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        first, last = torch.split(self.entry(x), self.sizes, dim=1)
        return self.exit(torch.cat([self.block(last), first], dim=1))


def c2f() -> nn.Module:
    """Return a C2f block between a convolution and a classifier."""
    return nn.Sequential(conv_bn_relu(3, 10), C2f(10, 8, 14), classifier(14))


def uneven() -> nn.Module:
    """Return a block whose split sizes are literals, 6 and 12."""
    return nn.Sequential(conv_bn_relu(3, 10), UnevenSplit(10, (6, 12), 16), classifier(16))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("csp_split", c2f, _IMAGES, "chunk, bottlenecks on the last part, cat of all parts"),
    ZooModel("csp_split_uneven", uneven, _IMAGES, "split sizes are literals; parts swap places"),
)
