"""Hazard: lengths and similarities. A channel is divided by what all channels are.

Coupled: as ever, each channel with its norm weight; both operands of a cosine similarity. What is
divided by runs over the channels, so it changes when some of them leave.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.entry import ZooModel, inputs


class RootMeanSquare(nn.Module):
    """RMS norm by hand (Zhang & Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class NormalizedMlp(nn.Module):
    """RMS norms, by hand and from the library, around a layer whose output has length one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Linear(8, 12), nn.Linear(12, 16)
        self.by_hand, self.library = RootMeanSquare(12), nn.RMSNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 10)."""
        x = F.normalize(self.middle(self.by_hand(self.embed(x))), dim=-1)
        return self.head(self.library(x))


class CosineClassifier(nn.Module):
    """Scores are cosines between features and one parameter for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Linear(8, 12), nn.Linear(12, 16)
        self.classes = nn.Parameter(torch.zeros(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 10)."""
        x = self.middle(torch.tanh(self.embed(x)))
        return F.cosine_similarity(x.unsqueeze(1), self.classes.unsqueeze(0), dim=-1)


class Distances(nn.Module):
    """Squared distances to prototypes, as a sum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Linear(8, 12), nn.Linear(12, 16)
        self.prototypes = nn.Parameter(torch.zeros(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 8) to (N, 10)."""
        x = self.middle(torch.tanh(self.embed(x)))
        return -(x[:, None] - self.prototypes).pow(2).sum(dim=-1)


MODELS = (
    ZooModel("channel_norm", NormalizedMlp, inputs((4, 8)), "root mean squares and lengths"),
    ZooModel("channel_norm_cosine", CosineClassifier, inputs((4, 8)), "cosine similarity"),
    ZooModel("channel_norm_distance", Distances, inputs((4, 8)), "distances to prototypes"),
)
