"""What several nodes read, drawn once: the concats of a dense block."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from fxprune.drawing.pictures import PictureEdge

if TYPE_CHECKING:
    from fxprune.drawing.pictures import Picture

_LEAST = 4
"""From so many edges on, one in their place says more."""
_BACK = 8
"""How many of the last nodes with many edges are asked."""


def shared(picture: Picture) -> Picture:
    """The picture in which one edge stands for many that an earlier node has too.

    If a node reads all that an earlier one reads, the same of at least four others, one edge
    without values leads to it from that node. In a dense block every layer reads all the layers
    before: what was an edge for every two of them becomes two edges for each.
    """
    entering: dict[str, dict[str, PictureEdge]] = {node.name: {} for node in picture.nodes}
    for edge in picture.edges:
        entering[edge.target][edge.source] = edge
    recent: deque[tuple[str, dict[str, PictureEdge]]] = deque(maxlen=_BACK)
    edges: list[PictureEdge] = []
    for target, found in entering.items():
        same = [(name, theirs) for name, theirs in recent if _is_part(theirs, found)]
        if same:
            name, theirs = max(same, key=lambda each: len(each[1]))
            edges += [edge for source, edge in found.items() if source not in theirs]
            edges.append(PictureEdge(name, target, ()))
        else:
            edges += found.values()
        if len(found) >= _LEAST:
            recent.append((target, found))
    return replace(picture, edges=tuple(edges))


def _is_part(some: dict[str, PictureEdge], edges: dict[str, PictureEdge]) -> bool:
    """Whether the same flows from the same sources along other edges, too."""
    return some.keys() <= edges.keys() and all(
        edge.values == edges[source].values for source, edge in some.items()
    )
