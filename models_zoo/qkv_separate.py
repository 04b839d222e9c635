"""Hazard: queries, keys and values come from layers, or even inputs, of their own.

Coupled: head h of all three layers with its columns of the projection; dim d of q with dim d of
k (and with entry d of the norms of both); the dims of v with the projection alone. Cross
attention: the inputs of k and v are other channels than those of q. Grouped queries: heads of k
and v are fewer, and each serves some consecutive heads of q: with it go all of these. Multi-query:
one head of k and v serves all, so heads of q are free.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import attend, token_network
from models_zoo.entry import ZooModel, inputs


class Separate(nn.Module):
    """Three layers; dims of v are fewer than those of q and k."""

    def __init__(self, heads: int = 4, dims: int = 6, value_dims: int = 5) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(20, heads * dims)
        self.k = nn.Linear(20, heads * dims, bias=False)
        self.v = nn.Linear(20, heads * value_dims)
        self.project = nn.Linear(heads * value_dims, 20)

    def heads_of(self, x: Tensor) -> Tensor:
        """Map (N, tokens, heads * dims) to (N, heads, tokens, dims)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k, v = self.heads_of(self.q(x)), self.heads_of(self.k(x)), self.heads_of(self.v(x))
        return self.project(attend(q, k, v))


class NormedQueries(Separate):
    """Layer norm of every head's query, and RMS norm of its key, over the dims of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.q_norm = nn.LayerNorm(6)
        self.k_norm = nn.RMSNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k = self.q_norm(self.heads_of(self.q(x))), self.k_norm(self.heads_of(self.k(x)))
        return self.project(attend(q, k, self.heads_of(self.v(x))))


class CosineAttention(Separate):
    """Queries and keys of length one, with a learned temperature for each head (Swin v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(Tensor(4, 1, 1).fill_(2.3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q = F.normalize(self.heads_of(self.q(x)), dim=-1)
        k = F.normalize(self.heads_of(self.k(x)), dim=-1)
        scores = q @ k.transpose(-2, -1) * self.temperature.clamp(max=4.6).exp()
        mixed = scores.softmax(dim=-1) @ self.heads_of(self.v(x))
        return self.project(mixed.transpose(1, 2).flatten(2))


class GroupedQueries(nn.Module):
    """Six heads of queries on two heads of keys and values (Ainslie et al. 2023)."""

    def __init__(self, kv_heads: int = 2) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dims = 6, kv_heads, 4
        self.q = nn.Linear(20, 6 * 4)
        self.k = nn.Linear(20, kv_heads * 4)
        self.v = nn.Linear(20, kv_heads * 4)
        self.project = nn.Linear(6 * 4, 20)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        batch, tokens, _ = x.shape
        q = self.q(x).view(batch, tokens, self.heads, self.dims).transpose(1, 2)
        k = self.k(x).view(batch, tokens, self.kv_heads, self.dims).transpose(1, 2)
        v = self.v(x).view(batch, tokens, self.kv_heads, self.dims).transpose(1, 2)
        return self.project(attend(q, self.repeated(k), self.repeated(v)))

    def repeated(self, x: Tensor) -> Tensor:
        """Map (N, kv heads, tokens, dims) to (N, heads, tokens, dims)."""
        return x.repeat_interleave(self.heads // self.kv_heads, dim=1)


class ExpandedQueries(GroupedQueries):
    """The same by expand and reshape (Llama)."""

    def repeated(self, x: Tensor) -> Tensor:
        """Map (N, kv heads, tokens, dims) to (N, heads, tokens, dims)."""
        batch, kv_heads, tokens, dims = x.shape
        times = self.heads // self.kv_heads
        x = x[:, :, None].expand(batch, kv_heads, times, tokens, dims)
        return x.reshape(batch, kv_heads * times, tokens, dims)


class MultiQuery(GroupedQueries):
    """One head of keys and values, broadcast over six heads of queries (Shazeer 2019)."""

    def __init__(self) -> None:
        super().__init__(kv_heads=1)

    def repeated(self, x: Tensor) -> Tensor:
        """Nothing to repeat: a single head broadcasts."""
        return x


class LibraryGroupedQueries(GroupedQueries):
    """The same by the library's attention, which repeats keys and values itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q = self.q(x).unflatten(-1, (self.heads, self.dims)).transpose(1, 2)
        k = self.k(x).unflatten(-1, (self.kv_heads, self.dims)).transpose(1, 2)
        v = self.v(x).unflatten(-1, (self.kv_heads, self.dims)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.project(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """A decoder of 20 channels looks at the 14 channels of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.embed = nn.Linear(9, 14), nn.Linear(8, 20)
        self.q, self.k, self.v = nn.Linear(20, 24), nn.Linear(14, 24), nn.Linear(14, 24)
        self.project = nn.Linear(24, 20)
        self.head = nn.Linear(20, 10)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map (N, tokens, 8) and (N, memory tokens, 9) to (N, tokens, 10)."""
        x, memory = self.embed(x), F.gelu(self.encode(memory))
        q = self.q(x).unflatten(-1, (4, 6)).transpose(1, 2)
        k = self.k(memory).unflatten(-1, (4, 6)).transpose(1, 2)
        v = self.v(memory).unflatten(-1, (4, 6)).transpose(1, 2)
        return self.head(x + self.project(attend(q, k, v)))


def _entry(name: str, attention: type[nn.Module], hazard: str) -> ZooModel:
    return ZooModel(name, lambda: token_network(attention()), inputs((2, 7, 8)), hazard)


MODELS = (
    _entry("qkv_separate", Separate, "v has dims of its own"),
    _entry("qkv_separate_normed", NormedQueries, "norms over the dims of a head"),
    _entry("qkv_separate_cosine", CosineAttention, "dims of a head make its length"),
    _entry("qkv_separate_grouped", GroupedQueries, "keys and values repeated by interleaving"),
    _entry("qkv_separate_expanded", ExpandedQueries, "keys and values repeated by expand"),
    _entry("qkv_separate_library", LibraryGroupedQueries, "keys and values repeated by sdpa"),
    _entry("qkv_separate_multi_query", MultiQuery, "one head of keys and values for all"),
    ZooModel(
        "qkv_separate_cross",
        CrossAttention,
        inputs((2, 7, 8), (2, 5, 9)),
        "keys and values of another input",
    ),
)
