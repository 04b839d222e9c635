"""Hazard: residual addition. Every layer that writes to the stream keeps the same channels.

Coupled: per stage, the outputs (and batch norms) of all layers whose results are added, the
downsample included, and the inputs of all layers that read the sum. The middle of each block is
free. In the pre-activation variant the batch norms read the stream, so they belong to its group.
In the input-skip variant the network's input is added to the last layer, which therefore stays.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class BasicBlock(nn.Module):
    """ResNet's basic block (He et al. 2015), with a projection where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn_relu(in_channels, out_channels, stride=stride),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.body(x) + shortcut)


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each convolution (He et al. 2016)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        out = self.conv1(F.relu(self.bn1(x)))
        return x + self.conv2(F.relu(self.bn2(out)))


class InputSkip(nn.Module):
    """A denoiser: the prediction is the input minus what two convolutions find (DnCNN)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn_relu(3, 12), nn.Conv2d(12, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape."""
        return x - self.body(x)


def residual() -> nn.Module:
    """Return three basic blocks, the second of which changes width and resolution."""
    blocks = BasicBlock(8, 8), BasicBlock(8, 16, stride=2), BasicBlock(16, 16)
    return nn.Sequential(conv_bn_relu(3, 8), *blocks, classifier(16))


def preactivation() -> nn.Module:
    """Return two pre-activation blocks between a plain convolution and a classifier."""
    stem = nn.Conv2d(3, 12, 3, padding=1)
    blocks = PreActivationBlock(12, 16), PreActivationBlock(12, 20)
    return nn.Sequential(stem, *blocks, nn.BatchNorm2d(12), nn.ReLU(), classifier(12))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("residual", residual, _IMAGES, "all writers and readers of a residual stream"),
    ZooModel(
        "residual_preactivation",
        preactivation,
        _IMAGES,
        "batch norms read the residual stream, and no layer directly precedes them",
    ),
    ZooModel(
        "residual_input_skip",
        InputSkip,
        _IMAGES,
        "the network's input is added to the last layer, which must stay",
    ),
)
