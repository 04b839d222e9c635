"""Hazard: the network's input joins again later, beside channels that can be pruned.

Coupled: nothing across the concatenation, but a reader's columns are of two kinds: those of the
input (or of coordinates made on the spot) stay, at an offset that moves; the others follow their
producer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import classifier, conv_bn_relu
from models_zoo.entry import ZooModel, inputs


class Nerf(nn.Module):
    """Sines of a point, which join again half-way; density and colour (Mildenhall et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3 + 18, 16), nn.Linear(16, 20)
        self.third, self.density = nn.Linear(20 + 21, 14), nn.Linear(14, 1)
        self.colour = nn.Sequential(nn.Linear(14 + 3, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, point: Tensor, direction: Tensor) -> Tensor:
        """Map points and directions (N, 3) to colour and density (N, 4)."""
        waves = [f(point * 2.0**k) for k in range(3) for f in (torch.sin, torch.cos)]
        encoded = torch.cat([point, *waves], dim=-1)
        x = F.relu(self.second(F.relu(self.first(encoded))))
        x = F.relu(self.third(torch.cat([encoded, x], dim=-1)))
        colour = torch.sigmoid(self.colour(torch.cat([x, direction], dim=-1)))
        return torch.cat([colour, F.softplus(self.density(x))], dim=-1)


class CoordConv(nn.Module):
    """Coordinates of every position are appended as channels (Liu et al. 2018)."""

    line: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 10)
        self.register_buffer("line", torch.linspace(-1, 1, 16))
        self.conv = conv_bn_relu(10 + 2, 14)
        self.head = classifier(14)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to (N, 10)."""
        x = self.stem(x)
        rows = self.line.view(1, 1, -1, 1).expand(x.shape[0], 1, 16, 16)
        columns = self.line.view(1, 1, 1, -1).expand(x.shape[0], 1, 16, 16)
        return self.head(self.conv(torch.cat([x, rows, columns], dim=1)))


MODELS = (
    ZooModel("input_skip", Nerf, inputs((5, 3), (5, 3)), "two inputs join half-way"),
    ZooModel("input_skip_coordinates", CoordConv, inputs((2, 3, 16, 16)), "coordinates join"),
)
