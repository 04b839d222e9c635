"""Hazard: one linear layer makes queries, keys and values, which are cut apart in many ways.

Coupled, always: head h of q, k and v with its columns of the projection; dim d of q with dim d of
k, in every head; the dims of v with columns of the projection. Where a view makes a single axis
of "which, head, dim", dim d of v goes with dim d of q and k; where q, k and v are cut apart first
(chunk, split), the dims of v are a group of their own. The scale is that of the original width,
be it a literal, read off a shape, or the default of `scaled_dot_product_attention`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.blocks import attend, token_network
from models_zoo.entry import ZooModel, inputs


class Fused(nn.Module):
    """The layers that all variants have: 20 -> 3 times 4 heads of 6 dims -> 20."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.dims = 4, 6
        self.qkv = nn.Linear(20, 3 * 4 * 6)
        self.project = nn.Linear(4 * 6, 20)


class ByIndex(Fused):
    """Reshape, permute, and index the first axis; the scale is a literal (timm)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.dims).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q * self.dims**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.project((weights @ v).transpose(1, 2).reshape(batch, tokens, 24))


class ByUnbind(Fused):
    """Reshape, permute, unbind, and the library's attention with its default scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.project(mixed.transpose(1, 2).reshape(batch, tokens, -1))


class ByChunk(Fused):
    """Chunk in three, then make heads of each."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, self.dims)).transpose(1, 2) for t in (q, k, v))
        return self.project(attend(q, k, v))


class Grouped(nn.Module):
    """Six query heads, two key heads and two value heads, cut apart by position (Phi-3)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(20, (6 + 2 + 2) * 4)
        self.project = nn.Linear(6 * 4, 20)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape; each key head serves three query heads."""
        q, k, v = self.qkv(x).split((24, 8, 8), dim=-1)
        q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in (q, k, v))
        k, v = (t.repeat_interleave(3, dim=1) for t in (k, v))
        return self.project(attend(q, k, v))


class BySplit(Fused):
    """Heads first, of three times 6 dims, which are split: heads are outermost (GPT-NeoX)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, self.heads, 3 * self.dims).transpose(1, 2)
        q, k, v = qkv.split(self.dims, dim=-1)
        return self.project(attend(q, k, v))


class BySplitOfThree(Fused):
    """Reshape to (3, heads, dims) and split the axis of three, dim 2, into single positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, self.dims).split(1, dim=2)
        q, k, v = (part.squeeze(2).transpose(1, 2) for part in (q, k, v))
        return self.project(attend(q, k, v))


class ByEinsum(Fused):
    """Slices of the last axis, and both products of the attention by `einsum`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, tokens, 20) to the same shape."""
        qkv = self.qkv(x)
        q = qkv[..., :24].reshape(x.shape[0], -1, self.heads, self.dims)
        k = qkv[..., 24:48].reshape(x.shape[0], -1, self.heads, self.dims)
        v = qkv[..., 48:].reshape(x.shape[0], -1, self.heads, self.dims)
        weights = torch.einsum("nqhd,nkhd->nhqk", q, k).mul(self.dims**-0.5).softmax(dim=-1)
        return self.project(torch.einsum("nhqk,nkhd->nqhd", weights, v).flatten(2))


def _entry(name: str, attention: type[nn.Module], hazard: str) -> ZooModel:
    return ZooModel(name, lambda: token_network(attention()), inputs((2, 7, 8)), hazard)


MODELS = (
    _entry("qkv_fused", ByIndex, "reshape-permute, indexed; all sizes are literals"),
    _entry("qkv_fused_unbind", ByUnbind, "reshape-permute, unbound; sdpa's default scale"),
    _entry("qkv_fused_chunk", ByChunk, "three chunks; the dims of v are their own"),
    _entry("qkv_fused_grouped", Grouped, "key heads and their query heads are on the same axes"),
    _entry("qkv_fused_split", BySplit, "heads outermost, then split"),
    _entry("qkv_fused_split_dim", BySplitOfThree, "the axis of three is split and squeezed"),
    _entry("qkv_fused_einsum", ByEinsum, "slices, and einsum"),
)
