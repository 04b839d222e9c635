"""Hazard: one module, called more than once. There is one weight, and all calls must agree.

Coupled, a convolution applied twice in a row: its outputs with its own inputs, and so with the
stem that feeds it. Coupled, siamese towers: both calls share their channels; the two embeddings
are concatenated, so each channel is read at two offsets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class AppliedTwice(nn.Module):
    """A recurrent convolution: the same weights refine the map twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.refine = nn.Conv2d(12, 12, 3, padding=1)
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = F.relu(self.refine(self.stem(x)))
        x = F.relu(self.refine(x))
        return self.head(x)


class Siamese(nn.Module):
    """One tower for two images, and a linear layer over both embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(conv_bn_relu(3, 8), conv_bn_relu(8, 14), nn.AvgPool2d(4))
        self.compare = nn.Linear(2 * 14, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Map two (N, 3, H, W) images to (N, 2)."""
        pooled = [self.tower(left).mean(dim=(2, 3)), self.tower(right).mean(dim=(2, 3))]
        out: Tensor = self.compare(torch.cat(pooled, dim=1))
        return out


_IMAGE = (2, 3, 16, 16)
MODELS = (
    ZooModel("shared_module", AppliedTwice, inputs(_IMAGE), "a convolution that feeds itself"),
    ZooModel("shared_module_siamese", Siamese, inputs(_IMAGE, _IMAGE), "one tower, two inputs"),
)
