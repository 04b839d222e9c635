"""One edge for what an earlier node reads too."""

from __future__ import annotations

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


def test_few_edges_stay_as_they_are() -> None:
    whole = picture_of(residual(6, 6))
    assert set(shared(whole).edges) == set(whole.edges)
