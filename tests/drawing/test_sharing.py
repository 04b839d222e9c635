"""One edge for what an earlier node reads too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fxprune.drawing import Picture, picture_of
from fxprune.drawing.sharing import shared
from tests.drawing.models import Dense, analyzed, residual


def reads(picture: Picture, name: str, known: dict[str, set[str]]) -> set[str]:
    """What a node reads, by its edges and those of the nodes that it shares them with."""
    found: set[str] = set()
    for edge in picture.edges:
        if edge.target == name:
            found |= {edge.source} if edge.values else known[edge.source]
    return found


def test_a_dense_block_has_as_many_edges_as_layers_and_loses_none() -> None:
    whole = picture_of(analyzed(Dense(12)))
    picture = shared(whole)
    assert len(whole.edges) > 90
    assert len(picture.edges) < 60
    known: dict[str, set[str]] = {}
    for node in picture.nodes:
        known[node.name] = reads(picture, node.name, known)
    truth = {node.name: reads(whole, node.name, {}) for node in whole.nodes}
    assert known == truth


class Part(nn.Module):
    """A layer that puts out two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.conv(x).split((3, 2), 1)
        return first.relu(), second.relu()


class Joint(nn.Module):
    """A layer on a concat."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2, 1)

    def forward(self, *parts: Tensor) -> Tensor:
        return self.conv(torch.cat(parts, 1))


class Halves(nn.Module):
    """Two layers that read different parts of what the same four layers put out."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Part() for _ in range(4))
        self.first, self.second = Joint(12), Joint(8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = zip(*(part(x) for part in self.parts), strict=True)
        return self.first(*first) + self.second(*second)


def test_nodes_that_read_different_tensors_of_the_same_nodes_share_nothing() -> None:
    whole = picture_of(analyzed(Halves()))
    readers = [len([e for e in whole.edges if e.target == node.name]) for node in whole.nodes]
    assert readers.count(4) == 2
    assert set(shared(whole).edges) == set(whole.edges)


def test_few_edges_stay_as_they_are() -> None:
    whole = picture_of(residual(6, 6))
    assert set(shared(whole).edges) == set(whole.edges)
