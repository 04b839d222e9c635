"""Hazard: flatten. One channel of the last convolution is 49 input columns of a linear layer.

Coupled: `conv1`'s outputs with `conv2`'s inputs, one to one; `conv2`'s output channel c with
columns 49c .. 49c+48 of `fc1`; `fc1`'s outputs with `fc2`'s inputs. `fc2`'s outputs stay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.entry import ZooModel, inputs


class ClassicCnn(nn.Module):
    """Two convolutions with max pooling, then two linear layers, for 28x28 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(8 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 28, 28) to (N, 10)."""
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


MODELS = (
    ZooModel(
        "classic_cnn",
        ClassicCnn,
        inputs((2, 1, 28, 28)),
        "flatten: one channel is 49 columns of the linear layer",
    ),
)
