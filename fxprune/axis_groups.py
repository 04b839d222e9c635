"""Which groups of channels lie on an axis of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxprune.groups import Group
    from fxprune.labels import Axis, Ids, LabelAlgebra


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
        self._known: dict[bytes, list[int]] = {}

    def on(self, axis: Axis) -> OnAxis:
        """The groups on an axis."""
        if id(axis) not in self._found:
            # The axis is kept, for another one could get its id.
            self._found[id(axis)] = (axis, self._search(axis))
        return self._found[id(axis)][1]

    def _search(self, axis: Axis) -> OnAxis:
        numbers = [self._numbers(vector) for vector in self._labels.roots(axis)]
        found = {number for several in numbers for number in several} - {-1}
        covering = {n[0] for n in numbers if len(n) == 1} - {-1}
        return OnAxis(self._named(found), self._named(covering))

    def _numbers(self, vector: Ids) -> list[int]:
        code = vector.tobytes()
        if code not in self._known:
            numbers = self._number[vector]
            one = numbers[:1] if (numbers == numbers[0]).all() else np.unique(numbers)
            self._known[code] = one.tolist()
        return self._known[code]

    def _named(self, numbers: set[int]) -> tuple[Group, ...]:
        return tuple(self._groups[number] for number in sorted(numbers))
