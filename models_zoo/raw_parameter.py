"""Hazard: parameters that belong to no layer and reach the graph by themselves.

Coupled: a per-channel scale, whatever its shape, with the channels it multiplies; the weight
and the bias of a functional convolution with its producer and its reader; a parameter used by
`einsum` with the axes that its letters name. No module's attributes tell which axis is which.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class LayerScale(nn.Module):
    """A residual branch scaled by a (C, 1, 1) parameter (Touvron et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.branch = nn.Conv2d(12, 12, 3, padding=1)
        self.scale = nn.Parameter(torch.full((12, 1, 1), 1e-2))
        self.head = classifier(12)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.stem(x)
        return self.head(x + self.scale * self.branch(x))


class FunctionalConv(nn.Module):
    """Weights held as parameters and used by `F.conv2d` and `F.linear`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 8)
        self.kernel = nn.Parameter(torch.randn(14, 8, 3, 3) * 0.1)
        self.shift = nn.Parameter(torch.zeros(14))
        self.readout = nn.Parameter(torch.randn(10, 14) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = F.relu(F.conv2d(self.stem(x), self.kernel, self.shift, padding=1))
        return F.linear(x.mean(dim=(2, 3)), self.readout)


class RawVector(nn.Module):
    """A 1-d parameter, reshaped for a map and broadcast as it is over channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 10, 3, padding=1)
        self.slope = nn.Parameter(torch.full((10,), 0.25))
        self.offset = nn.Parameter(torch.zeros(10))
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, H, W, 4)."""
        x = self.stem(x)
        x = torch.where(x > 0, x, x * self.slope.view(1, -1, 1, 1))
        return self.head(x.permute(0, 2, 3, 1) + self.offset)


class EinsumParameter(nn.Module):
    """A parameter contracted with a map by `einsum`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 12)
        self.mix = nn.Parameter(torch.randn(12, 16) * 0.1)
        self.head = classifier(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        mixed = torch.einsum("nchw,cd->ndhw", self.stem(x), self.mix)
        return self.head(F.relu(mixed))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("raw_parameter", LayerScale, _IMAGES, "a (C, 1, 1) scale on a residual branch"),
    ZooModel("raw_parameter_functional", FunctionalConv, _IMAGES, "functional conv and linear"),
    ZooModel("raw_parameter_vector", RawVector, _IMAGES, "1-d parameters, viewed and broadcast"),
    ZooModel("raw_parameter_einsum", EinsumParameter, _IMAGES, "a parameter used by einsum"),
)
