"""Small models whose pictures the tests know by heart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import fxprune
from fxprune.drawing import Picture, picture_of


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.conv2(self.bn1(self.conv1(x)).relu())).relu()


class Residual(nn.Module):
    """A stem, some residual blocks and a head."""

    def __init__(self, *inner: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.Sequential(*(Block(8, width) for width in inner))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """Every layer reads all the layers before."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4 * (k + 1), 4, 1), nn.ReLU()) for k in range(layers)
        )
        self.head = nn.Conv2d(4 * (layers + 1), 2, 1)
        self.stem = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        return self.head(torch.cat(found, 1))


class Attention(nn.Module):
    """An attention that is one node, on embedded words."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        return self.head(x + self.attend(x, x, x, need_weights=False)[0])


IMAGE = torch.zeros(2, 3, 8, 8)
WORDS = torch.zeros(2, 5, dtype=torch.int64)


def analyzed(model: nn.Module, inputs: Any = IMAGE) -> fxprune.DependencyGraph:
    """The analysis of a model in eval mode."""
    return fxprune.analyze(model.eval(), inputs)


def residual(*inner: int) -> fxprune.DependencyGraph:
    """The analysis of a residual model with blocks of these inner widths."""
    return analyzed(Residual(*inner))


def small() -> nn.Module:
    """For the command line."""
    return Residual(6, 6, 4)


def named(name: str) -> Picture:
    """A picture of modules, operators and a reason with such a name.

    A file can have any names, those of a traced model are a little tamer.
    """
    picture = picture_of(residual(6))
    nodes = [
        replace(node, title=name, path=f"{node.parent}.{name}", operators=(name,), source=name)
        for node in picture.nodes
    ]
    pinned = [
        replace(node, pinned=node.pinned and replace(node.pinned, what=name, hint=name))
        for node in nodes
    ]
    return replace(picture, nodes=tuple(pinned), modules={"": name, "blocks.0": name})
