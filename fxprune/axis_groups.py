"""Which groups of channels lie on an axis of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.groups import Group
    from fxprune.labels import Axis, LabelAlgebra


@dataclass(frozen=True)
class OnAxis:
    """What lies on an axis.

    Attributes:
        groups: those with a channel at some position, in the order of the analysis.
        covering: those of them with a channel at every position. Several cross each other, as
            heads and head dims do; where groups lie side by side, as after a concat, there is none.
    """

    groups: tuple[Group, ...]
    covering: tuple[Group, ...]


class AxisGroups:
    """Looks up groups by axis; each axis is looked at once.

    Args:
        groups: all groups of an analysis.
        labels: its labels.
    """

    def __init__(self, groups: Sequence[Group], labels: LabelAlgebra) -> None:
        self._groups = groups
        self._labels = labels
        self._number = np.full(len(labels), -1, dtype=np.int64)
        for number, group in enumerate(groups):
            self._number[group.ids] = number
        self._found: dict[int, tuple[Axis, OnAxis]] = {}

    def on(self, axis: Axis) -> OnAxis:
        """The groups on an axis."""
        if id(axis) not in self._found:
            # The axis is kept, for another one could get its id.
            self._found[id(axis)] = (axis, self._search(axis))
        return self._found[id(axis)][1]

    def _search(self, axis: Axis) -> OnAxis:
        vectors = self._labels.expand(axis.vectors, keep_pinned=True)
        numbers = [np.unique(self._number[vector]).tolist() for vector in vectors]
        found = {number for several in numbers for number in several} - {-1}
        covering = {n[0] for n in numbers if len(n) == 1} - {-1}
        return OnAxis(self._named(found), self._named(covering))

    def _named(self, numbers: set[int]) -> tuple[Group, ...]:
        return tuple(self._groups[number] for number in sorted(numbers))
