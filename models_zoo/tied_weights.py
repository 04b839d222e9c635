"""Hazard: one tensor in two roles, and tables that are looked up by number.

Coupled, tied embeddings: the columns of the table with the residual stream, once as what is looked
up and once as what the output layer sums over; its rows are words and stay. Two layers with one
weight: inputs of one are inputs of the other. An embedding bag's columns are channels as those of
an embedding; its mean or sum runs over words.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models_zoo.entry import ZooModel, words


class TiedEmbedding(nn.Module):
    """A language model's input table is its output layer (Press & Wolf 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.expand, self.project = nn.Linear(12, 18), nn.Linear(18, 12)
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, tokens) to (N, tokens, 30)."""
        x = self.embed(tokens)
        x = x + self.project(F.gelu(self.expand(x)))
        return self.head(self.norm(x))


class TransposedTie(nn.Module):
    """An autoencoder whose decoder is the encoder's transposed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.encode = nn.Linear(12, 16)
        self.shift = nn.Parameter(torch.zeros(12))
        self.head = nn.Linear(12, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, tokens) to (N, tokens, 10)."""
        code = torch.tanh(self.encode(self.embed(tokens)))
        return self.head(F.linear(code, self.encode.weight.t(), self.shift))


class Bags(nn.Module):
    """The mean of some words and the sum of others, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.EmbeddingBag(30, 12, mode="mean")
        self.total = nn.EmbeddingBag(30, 14, mode="sum")
        self.hidden, self.head = nn.Linear(26, 18), nn.Linear(18, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (N, tokens) to (N, 10)."""
        x = torch.cat([self.mean(tokens), self.total(tokens)], dim=1)
        return self.head(torch.relu(self.hidden(x)))


MODELS = (
    ZooModel("tied_weights", TiedEmbedding, words(30, (2, 7)), "input and output table are one"),
    ZooModel("tied_weights_transposed", TransposedTie, words(30, (2, 7)), "decoder = encoder.T"),
    ZooModel("tied_weights_bags", Bags, words(30, (3, 5)), "embedding bags"),
)
