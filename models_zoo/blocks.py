"""The two building blocks that most families share; neither is a hazard by itself."""

from __future__ import annotations

from torch import nn


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return convolution ("same" padding for odd kernels, no bias), batch norm and ReLU."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def classifier(channels: int, classes: int = 10) -> nn.Sequential:
    """Return global average pooling, flatten and a linear layer: (N, C, H, W) -> (N, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
