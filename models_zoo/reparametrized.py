"""Hazard: weights that are computed from other tensors whenever the layer is called.

Coupled: each tensor's axes with the axes of the weight that is made of them. Weight norm: the
magnitude and the direction of an output channel. Spectral norm: the vectors of the power iteration,
the longer of which runs over inputs and kernel taps. Weight standardization: mean and variance over
inputs and kernel taps, which change when input channels leave.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class StandardizedConv(nn.Conv2d):
    """A convolution whose filters have zero mean and unit variance (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in, H, W) to (N, out, H, W)."""
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = self.weight.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        weight = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class LowRank(nn.Module):
    """A parametrization: the weight plus a product of two narrow matrices (LoRA)."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.zeros(rank, columns))

    def forward(self, weight: Tensor) -> Tensor:
        """Map the (rows, columns) weight to one of the same shape."""
        return weight + self.up @ self.down


def weight_norm() -> nn.Module:
    """Return two convolutions and a linear layer under weight norm."""
    return nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(3, 12, 3, padding=1)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Conv2d(12, 16, 3, padding=1)),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        parametrizations.weight_norm(nn.Linear(16, 10)),
    )


def spectral_norm() -> nn.Module:
    """Return two convolutions under spectral norm."""
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(3, 12, 3, padding=1)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Conv2d(12, 16, 3, padding=1)),
        nn.ReLU(),
        classifier(16),
    )


def standardized() -> nn.Module:
    """Return two standardized convolutions, each before a group norm."""
    return nn.Sequential(
        conv_bn_relu(3, 8),
        StandardizedConv(8, 12, 3, padding=1),
        nn.GroupNorm(3, 12),
        nn.ReLU(),
        StandardizedConv(12, 20, 1),
        nn.GroupNorm(5, 20),
        classifier(20),
    )


def low_rank() -> nn.Module:
    """Return a linear layer with a low-rank update between two plain ones."""
    middle = nn.Linear(12, 18)
    nn.utils.parametrize.register_parametrization(middle, "weight", LowRank(18, 12, 4))
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), middle, nn.ReLU(), nn.Linear(18, 10))


_IMAGES = inputs((2, 3, 16, 16))
MODELS = (
    ZooModel("reparametrized_weight_norm", weight_norm, _IMAGES, "magnitude and direction"),
    ZooModel("reparametrized_spectral_norm", spectral_norm, _IMAGES, "a weight over its norm"),
    ZooModel("reparametrized_standardized", standardized, _IMAGES, "weight standardization"),
    ZooModel("reparametrized_low_rank", low_rank, inputs((2, 8)), "a weight and its update"),
)
