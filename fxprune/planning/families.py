"""Which groups are alike: built from the same layers, or in the same place of repeated blocks."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import nn

    from fxprune.groups import Group

Key: TypeAlias = tuple[Any, ...]
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


def alike(groups: Iterable[Group], model: nn.Module) -> list[list[Group]]:
    """Groups in the same place of repeated blocks, put together: those of one kind and size.

    Blocks are repeated if they are of the same class, in the encoder and in the decoder, or if
    their names are the same but for numbers.
    """
    kinds = {name: type(module) for name, module in model.named_modules() if name}
    own = {
        name: f"{kind.__module__}.{kind.__qualname__}"
        for name, kind in kinds.items()
        if not kind.__module__.startswith("torch.")
    }
    families: dict[Key, list[Group]] = defaultdict(list)
    for group in groups:
        families[group.kind, group.size, *_place(group, own)].append(group)
    return list(families.values())


def _place(group: Group, classes: Mapping[str, str]) -> tuple[str, frozenset[Key]]:
    """The class of the smallest blocks that have all axes of a group, and what all have of them.

    Heads that a bias ties together are in many blocks, each of which has them in the same place;
    the axes on which layers meet are in no place that all of these have, but in a larger block.
    """
    for block in _blocks_around(group.members[0].parameter, classes):
        inside: dict[str, set[Key]] = defaultdict(set)
        for member in group.members:
            around = _blocks_around(member.parameter, classes)
            found = next((b for b in around if classes[b] == classes[block]), None)
            if found is None:
                break
            name = member.parameter[len(found) + 1 :]
            inside[found].add((_NUMBER.sub("*", name), member.dim))
        else:
            if common := frozenset.intersection(*map(frozenset, inside.values())):
                return classes[block], common
    return "", frozenset((_NUMBER.sub("*", m.parameter), m.dim) for m in group.members)


def _blocks_around(parameter: str, classes: Mapping[str, str]) -> Iterator[str]:
    """The modules that have a parameter and are of a class that is not torch's, smallest first."""
    name = parameter
    while name := name.rpartition(".")[0]:
        if name in classes:
            yield name
