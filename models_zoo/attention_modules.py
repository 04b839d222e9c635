"""Hazard: attention and transformer layers of `torch.nn` as leaves of the graph.

Coupled: in each head the rows of q with those of k, and those of v with the columns of the output
projection; the residual width with whatever reads or adds it. The modules keep head counts and
widths as numbers and check them, so that they cannot take pruned operands as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from models_zoo.entry import ZooModel, inputs


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of a sequence with itself; the weights are returned too."""

    def __init__(self, *, need_weights: bool = True, **options: Any) -> None:
        super().__init__()
        self.need_weights = need_weights
        self.embed = nn.Linear(8, 16)
        self.attention = nn.MultiheadAttention(16, 4, **options)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (N, tokens, 8) to (N, tokens, 5), and attention weights if they are asked for."""
        x = self.embed(x)
        out, weights = self.attention(x, x, x, need_weights=self.need_weights)
        return self.head(x + out), weights


class CrossAttention(nn.Module):
    """Queries, keys and values of different widths, and so three input projections."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 16), nn.Linear(6, 12), nn.Linear(6, 10)
        self.attention = nn.MultiheadAttention(16, 4, kdim=12, vdim=10, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map (N, tokens, 8) and (N, others, 6) to (N, tokens, 5)."""
        key, value = self.key(memory), self.value(memory)
        return self.head(self.attention(self.query(x), key, value, need_weights=False)[0])


class Encoder(nn.Module):
    """A `nn.TransformerEncoderLayer`."""

    def __init__(self, *, norm_first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=norm_first)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 8) to (N, tokens, 5)."""
        return self.head(self.layer(self.embed(x)))


class Decoder(nn.Module):
    """A `nn.TransformerDecoderLayer`: self-attention, then cross-attention to a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory = nn.Linear(8, 16), nn.Linear(6, 16)
        self.layer = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map (N, tokens, 8) and (N, others, 6) to (N, tokens, 5)."""
        return self.head(self.layer(self.embed(x), self.memory(memory)))


@fx.wrap
def attend(x: Tensor, qkv: Tensor, heads: int) -> Tensor:
    """Attention of a sequence with itself, with sizes that are written down."""
    batch, tokens, width = x.shape
    fused = torch.nn.functional.linear(x, qkv).reshape(batch, tokens, 3, heads, width // heads)
    query, key, value = fused.permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(-2, -1)) * (width // heads) ** -0.5
    return (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, width)


class Wrapped(nn.Module):
    """A function that `fx.wrap` hides from tracing, as torchvision hides Swin's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.qkv = nn.Parameter(torch.randn(48, 16) * 0.2)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 8) to (N, tokens, 5)."""
        return self.head(attend(self.embed(x), self.qkv, 4))


_TOKENS = inputs((2, 6, 8))
_PAIR = inputs((2, 6, 8), (2, 7, 6))
_NAME = "attention_modules"
MODELS = (
    ZooModel(
        _NAME, lambda: SelfAttention(batch_first=True), _TOKENS, "nn.MultiheadAttention, weights"
    ),
    ZooModel(
        f"{_NAME}_bias_kv",
        lambda: SelfAttention(add_bias_kv=True, add_zero_attn=True, need_weights=False),
        _TOKENS,
        "learned and zero keys beside those of the sequence, which comes first",
    ),
    ZooModel(f"{_NAME}_cross", CrossAttention, _PAIR, "keys and values of their own widths"),
    ZooModel(
        f"{_NAME}_encoder", lambda: Encoder(norm_first=False), _TOKENS, "norms after the branches"
    ),
    ZooModel(
        f"{_NAME}_encoder_prenorm", lambda: Encoder(norm_first=True), _TOKENS, "norms before them"
    ),
    ZooModel(f"{_NAME}_decoder", Decoder, _PAIR, "self- and cross-attention in one module"),
    ZooModel(f"{_NAME}_wrapped", Wrapped, _TOKENS, "a function that tracing does not enter"),
)
