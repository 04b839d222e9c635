"""Hazard: convolutions over one and three spatial axes, which must not be taken for 2-d ones.

Coupled: as in `residual` and `vgg`, whatever the number of spatial axes: outputs with batch
norm, with added outputs, with the next inputs. Channel c of the last volume is eight columns of
the linear layer, one per position.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.entry import ZooModel, inputs


class Waveform(nn.Module):
    """Dilated 1-d convolutions with a residual, for (N, 2, T) signals."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 12, 7, stride=2, padding=3)
        self.bn = nn.BatchNorm1d(12)
        self.dilated = nn.Conv1d(12, 12, 3, padding=2, dilation=2)
        self.conv = nn.Conv1d(12, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 2, T) to (N, 5)."""
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.dilated(x))
        x = F.relu(self.conv(x)).mean(dim=2)
        return self.fc(x)


def volume() -> nn.Module:
    """Return 3-d convolutions and a flatten, for (N, 1, 8, 8, 8) volumes."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool3d(2),
        nn.Flatten(),
        nn.Linear(12 * 2 * 2 * 2, 10),
    )


MODELS = (
    ZooModel("conv1d_3d", Waveform, inputs((2, 2, 32)), "1-d convolutions with a residual"),
    ZooModel("conv1d_3d_volume", volume, inputs((2, 1, 8, 8, 8)), "3-d convolutions, flattened"),
)
