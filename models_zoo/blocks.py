"""The building blocks that most families share; none is a hazard by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


class PreNorm(nn.Module):
    """A residual branch on normalized tokens: x + inner(norm(x))."""

    def __init__(self, width: int, inner: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ..., width) to the same shape."""
        return x + self.inner(self.norm(x))


def token_network(*inner: nn.Module) -> nn.Sequential:
    """Return an embedding 8 -> 20, each of `inner` in a residual branch, and a head 20 -> 10."""
    blocks = (PreNorm(20, part) for part in inner)
    return nn.Sequential(nn.Linear(8, 20), *blocks, nn.Linear(20, 10))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Attention on (N, heads, tokens, dims), scaled by dims ** -0.5 as read off the query.

    Returns (N, tokens, heads * dims of v).
    """
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias
    mixed = torch.softmax(scores, dim=-1) @ v
    return mixed.transpose(1, 2).flatten(2)
