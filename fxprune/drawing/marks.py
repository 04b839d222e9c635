"""Which nodes of a picture are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxprune.drawing.pictures import Picture

ENDS = ("input", "output")


def explained(picture: Picture) -> set[str]:
    """The nodes that tell why channels must stay: the first of each group and reason."""
    pinned = [n for n in picture.nodes if n.pinned is not None and n.name not in picture.outside]
    first = {(n.group, n.pinned): n.name for n in reversed(pinned) if n.kind not in ENDS}
    return set(first.values())


def bordered(picture: Picture) -> set[str]:
    """The nodes at which channels that are drawn met what must stay."""
    return {
        node.name
        for node in picture.nodes
        if node.kind not in ENDS and any(picture.groups[name].nodes for name in node.pins)
    }
