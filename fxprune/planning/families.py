"""Which groups are alike: built from the same layers, or in the same place of repeated blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fxprune.groups import Group

Key: TypeAlias = tuple[object, ...]
_NUMBER = re.compile(r"(?<![^._])\d+(?![^.])")
"""A number that is a whole part of a name, or ends one after an underscore."""


def structure(kinds: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], group: Group) -> Key:
    """What a group is built of: the kinds of layers that carry it, whatever their sizes.

    Fang et al., Isomorphic Pruning for Vision Models, 2024: substructures with the same topology
    are ranked among one another.

    Args:
        kinds: the class of every module, by name.
        shapes: the shape of every parameter, whose number of dims tells layers of an exported
            program apart, which has no classes of modules.
        group: the group.
    """

    def layer(parameter: str) -> tuple[str, str, int]:
        owner, _, leaf = parameter.rpartition(".")
        return kinds.get(owner, ""), leaf, len(shapes[parameter])

    carried = sorted((*layer(m.parameter), m.dim) for m in group.members)
    return (group.kind, *carried)


def place(group: Group) -> Key:
    """Where a group stands, whatever the number of the block; and how many channels it has."""
    carried = sorted({(_NUMBER.sub("*", m.parameter), m.dim) for m in group.members})
    return (group.kind, group.size, *carried)
