"""Hazard: attention that is more than a softmax over tokens.

Coupled, talking heads: maps from heads to heads before and after the softmax, so q and k have
heads of their own, v has others, and each is an axis of a small matrix. Linear attention: keys
meet values first, so dims of v are never summed, and the normalizer sums dims of q with dims of k.
Attention over channels (XCA): a softmax over the dims of k, and queries and keys are normalized
over tokens; dims of q live with the projection, dims of k with those of v.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import token_network
from models_zoo.entry import ZooModel, inputs


class Kinds(nn.Module):
    """Fused layers 20 -> 3 times 4 heads of 6 dims -> 20, cut by chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(20, 3 * 4 * 6)
        self.project = nn.Linear(4 * 6, 20)

    def cut(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, each (N, 4, tokens, 6)."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return tuple(part.unflatten(-1, (4, 6)).transpose(1, 2) for part in (q, k, v))


class TalkingHeads(Kinds):
    """Heads are mixed before and after the softmax (Shazeer et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k, v = self.cut(x)
        scores = q @ k.transpose(-2, -1) * 6**-0.5
        scores = self.before(scores.permute(0, 2, 3, 1)).softmax(dim=2)
        weights = self.after(scores).permute(0, 3, 1, 2)
        return self.project((weights @ v).transpose(1, 2).flatten(2))


class LinearAttention(Kinds):
    """A kernel feature map in place of the softmax (Katharopoulos et al. 2020)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k, v = self.cut(x)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        mixed = q @ (k.transpose(-2, -1) @ v)
        total = q @ k.sum(dim=2).unsqueeze(-1)
        return self.project((mixed / total).transpose(1, 2).flatten(2))


class ChannelAttention(Kinds):
    """Attention among the dims of a head, over tokens (XCiT, El-Nouby et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k, v = (part.transpose(-2, -1) for part in self.cut(x))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project((weights @ v).permute(0, 3, 1, 2).flatten(2))


def _entry(name: str, attention: type[nn.Module], hazard: str) -> ZooModel:
    return ZooModel(name, lambda: token_network(attention()), inputs((2, 7, 8)), hazard)


MODELS = (
    _entry("attention_kinds_talking", TalkingHeads, "linear layers map heads to heads"),
    _entry("attention_kinds_linear", LinearAttention, "a kernel feature map, no softmax"),
    _entry("attention_kinds_channels", ChannelAttention, "a softmax over the dims of a head"),
)
