"""Hazard: layers that mix tokens, so that tokens are channels of a layer too.

Coupled: channels of the stream through all blocks; the hidden widths of both kinds of layer are
free. The number of tokens is the size of the image over that of a patch: it stays.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.entry import ZooModel, inputs


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand, self.project = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        return self.project(F.gelu(self.expand(x)))


class MixerBlock(nn.Module):
    """Mix tokens, then channels (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = Mlp(tokens, 14)
        self.channels = Mlp(channels, 18)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, channels) to the same shape."""
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """Patches, two blocks, the mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.blocks = nn.Sequential(MixerBlock(16, 12), MixerBlock(16, 12))
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to (N, 10)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(x).mean(dim=1))


class LatentTokens(nn.Module):
    """Learned weights pool 16 tokens to 6, which are mixed: these tokens can go."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.pool, self.unpool = nn.Linear(16, 6), nn.Linear(6, 16)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 16, 8) to (N, 16, 10)."""
        x = self.embed(x)
        latent = F.gelu(self.pool(x.mT))
        return self.head(x + self.unpool(latent).mT)


MODELS = (
    ZooModel("mixer", Mixer, inputs((2, 3, 16, 16)), "layers over tokens, layers over channels"),
    ZooModel("mixer_latent", LatentTokens, inputs((2, 16, 8)), "tokens that a layer makes"),
)
