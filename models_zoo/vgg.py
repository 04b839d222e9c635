"""Hazard: batch norm between layers, and a flatten after adaptive pooling.

Coupled: each convolution's outputs with its batch norm (weight, bias, running mean and variance)
and with the next convolution's inputs; channel c of the last convolution with columns 4c .. 4c+3
of the classifier, because the adaptive pool leaves 2x2 positions.
"""

from __future__ import annotations

from torch import Tensor, nn

from models_zoo.blocks import conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Vgg(nn.Module):
    """Stacks of convolution, batch norm and ReLU, then a classifier with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn_relu(3, 8),
            conv_bn_relu(8, 12),
            nn.MaxPool2d(2),
            conv_bn_relu(12, 16),
            conv_bn_relu(16, 20),
            nn.MaxPool2d(2),
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Sequential(
            nn.Linear(20 * 2 * 2, 24), nn.ReLU(), nn.Dropout(0.5), nn.Linear(24, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 10)."""
        x = self.pool(self.features(x))
        return self.head(x.flatten(1))


MODELS = (
    ZooModel(
        "vgg",
        Vgg,
        inputs((2, 3, 32, 32)),
        "batch-norm statistics follow the convolution; flatten after adaptive pooling",
    ),
)
