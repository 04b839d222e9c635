"""Hazard: what tells an attention the order of its tokens.

Coupled, rotary embeddings: dim d of q and k with the dim it is rotated with, d + 3 for the halves,
its neighbour for pairs and for the complex view, and with the columns of the tables of sines, which
follow. ALiBi: one slope for each head, which goes with it. Learned positions and a class token:
their last axis is the residual stream; the tokens stay.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models_zoo.blocks import attend, token_network
from models_zoo.entry import ZooModel, inputs

_TOKENS = 7


def _angles(dims: int) -> Tensor:
    """Angle t * 100 ** (-2i / dims) for token t and pair i: (tokens, dims / 2)."""
    frequencies = 100.0 ** (-torch.arange(0, dims, 2) / dims)
    return torch.arange(_TOKENS)[:, None] * frequencies


class Positioned(nn.Module):
    """Fused layers 20 -> 3 times 4 heads of 6 dims -> 20; subclasses rotate q and k."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(20, 3 * 4 * 6)
        self.project = nn.Linear(4 * 6, 20)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 7, 20) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in (q, k, v))
        return self.project(attend(self.rotated(q), self.rotated(k), v, self.bias()))

    def rotated(self, x: Tensor) -> Tensor:
        """What a token's place does to queries and keys, (N, heads, tokens, dims)."""
        return x

    def bias(self) -> Tensor | float:
        """What is added to the scores, (heads, tokens, tokens)."""
        return 0.0


class RotatedHalves(Positioned):
    """Rotary embeddings (Su et al. 2021) that pair dim d with d + 3 (Llama)."""

    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = _angles(6).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotated(self, x: Tensor) -> Tensor:
        """Rotate the pairs (d, d + 3)."""
        half = x.shape[-1] // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * self.cos + turned * self.sin


class RotatedNeighbours(Positioned):
    """Rotary embeddings that pair dims 2i and 2i + 1 (GPT-J)."""

    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = _angles(6).repeat_interleave(2, dim=1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotated(self, x: Tensor) -> Tensor:
        """Rotate the pairs (2i, 2i + 1)."""
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
        return x * self.cos + turned * self.sin


class RotatedComplex(Positioned):
    """Rotary embeddings as a product of complex numbers (the first Llama)."""

    turns: Tensor

    def __init__(self) -> None:
        super().__init__()
        angles = _angles(6)
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def rotated(self, x: Tensor) -> Tensor:
        """Rotate the pairs (2i, 2i + 1)."""
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * self.turns).flatten(-2)


class Alibi(Positioned):
    """A penalty on distance, with a slope for each head (Press et al. 2022)."""

    slopes: Tensor
    distance: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(_TOKENS)
        self.register_buffer("slopes", 2.0 ** -torch.arange(1, 5).view(4, 1, 1))
        self.register_buffer("distance", (place[:, None] - place[None]).abs().float())

    def bias(self) -> Tensor | float:
        """Minus slope times distance."""
        return -self.slopes * self.distance


class ClassToken(nn.Module):
    """A ViT (Dosovitskiy et al. 2021): patches, class token, learned positions, one block."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 20, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 20))
        self.positions = nn.Parameter(torch.zeros(1, 1 + 16, 20))
        self.block = token_network(Positioned())[1]
        self.norm = nn.LayerNorm(20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to (N, 10)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.block(x))[:, 0])


class LearnedSequence(nn.Module):
    """Learned positions of a 1-d feature map, channels first, cut to its length."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 14, 3, padding=1)
        self.positions = nn.Parameter(torch.zeros(14, 32))
        self.conv = nn.Conv1d(14, 12, 3, padding=1)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, L) to (N, 10), for L of at most 32."""
        x = self.stem(x)
        x = self.conv(torch.relu(x + self.positions[:, : x.shape[-1]]))
        return self.head(x.mean(dim=-1))


def _entry(name: str, attention: type[nn.Module], hazard: str) -> ZooModel:
    return ZooModel(name, lambda: token_network(attention()), inputs((2, _TOKENS, 8)), hazard)


MODELS = (
    _entry("attention_positions_halves", RotatedHalves, "dim d is rotated with d + 3"),
    _entry("attention_positions_neighbours", RotatedNeighbours, "neighbouring dims are rotated"),
    _entry("attention_positions_complex", RotatedComplex, "dims are complex numbers"),
    _entry("attention_positions_alibi", Alibi, "a slope for each head"),
    ZooModel(
        "attention_positions_class_token",
        ClassToken,
        inputs((2, 3, 16, 16)),
        "a learned token is joined, a learned table is added",
    ),
    ZooModel(
        "attention_positions_learned",
        LearnedSequence,
        inputs((2, 3, 20)),
        "a learned table is cut to the length of the input",
    ),
)
