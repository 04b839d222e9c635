"""The time of an operator at any widths, from its times at a few.

Times are measured on a grid of widths, the eighths of each dense width, and interpolated: linearly
along up to two axes, and for more by the number of elements that are read and written.

Where an axis has a multiple (see `host_widths`), operators work in steps: the grid has multiples
only, and a width counts as the next one. What a width that is none takes beside that is measured
too: an operator is timed at such widths in the middle of the grid, and the factor holds everywhere
for widths that have the same power of two as a factor.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

Sizes: TypeAlias = tuple[int, ...]
"""The sizes of the axes of an operator that can lose positions."""
_PIECES = 8


@dataclass(frozen=True)
class TimeGrid:
    """The times of an operator by the sizes of its axes.

    Attributes:
        dense: the sizes of the axes in the dense model.
        multiples: what each had better be a multiple of; 1 where any size will do.
        time: measures it, in any unit; None if it cannot be run at such sizes, which then count by
            their elements.
        elements: how many elements are read and written.
    """

    dense: Sizes
    multiples: Sizes
    time: Callable[[Sizes], float | None]
    elements: Callable[[Sizes], int]

    def __call__(self, sizes: Sizes) -> float:
        """The time at some sizes; 0 if the operator cannot be run at the dense ones."""
        whole = self.time(self.dense)
        if whole is None:
            return 0.0

        def at(point: Sizes) -> float:
            found = self.time(point)
            if found is None:
                return whole * self.elements(point) / max(1, self.elements(self.dense))
            return found

        return self._on_multiples(sizes, at) * self._factor(sizes, at)

    def _on_multiples(self, sizes: Sizes, at: Callable[[Sizes], float]) -> float:
        """The time at the next multiples, from those at the grid's widths around them."""
        triples = zip(sizes, self.multiples, self.dense, strict=True)
        widths = tuple(min(_next(size, multiple), dense) for size, multiple, dense in triples)
        grids = [grid(*each) for each in zip(self.dense, self.multiples, strict=True)]
        if len(widths) > 2:
            diagonal = [
                tuple(each[math.ceil(k * (len(each) - 1) / _PIECES)] for each in grids)
                for k in range(_PIECES + 1)
            ]
            elements = [self.elements(point) for point in diagonal]
            cell = between(elements, self.elements(widths))
            return sum(part * at(diagonal[k]) for k, part in cell)
        cells = [between(*each) for each in zip(grids, widths, strict=True)]
        return sum(
            math.prod(part for _, part in corner)
            * at(tuple(each[k] for each, (k, _) in zip(grids, corner, strict=True)))
            for corner in product(*cells)
        )

    def _factor(self, sizes: Sizes, at: Callable[[Sizes], float]) -> float:
        """How much longer it takes at widths that are no multiples than at the next ones."""
        probe = []
        for size, multiple, dense in zip(sizes, self.multiples, self.dense, strict=True):
            middle = _next(math.ceil(dense / 2), multiple)
            is_odd = size % multiple != 0 and size != dense and middle <= dense
            probe.append(middle - (size & -size) if is_odd else min(middle, dense))
        if not any(p % m for p, m in zip(probe, self.multiples, strict=True)):
            return 1.0
        whole = self._on_multiples(tuple(probe), at)
        return at(tuple(probe)) / whole if whole > 0 else 1.0


def _next(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def grid(dense: int, multiple: int = 1) -> list[int]:
    """The widths at which operators are measured, of an axis of a dense width.

    >>> grid(64)
    [1, 8, 16, 24, 32, 40, 48, 56, 64]
    >>> grid(64, 16)
    [16, 32, 48, 64]
    >>> grid(4)
    [1, 2, 3, 4]
    """
    eighths = (max(1, math.ceil(dense * k / _PIECES)) for k in range(_PIECES + 1))
    return sorted({min(_next(width, multiple), dense) for width in eighths})


def between(grid: Sequence[int], size: int) -> list[tuple[int, float]]:
    """The places of a grid around a size, and the part that each has; those without are left out.

    >>> between([1, 8, 16], 10)
    [(1, 0.75), (2, 0.25)]
    >>> between([1, 8, 16], 8)
    [(1, 1.0)]
    """
    size = min(max(size, grid[0]), grid[-1])
    low = bisect_right(grid, size) - 1
    if grid[low] == size:
        return [(low, 1.0)]
    part = (size - grid[low]) / (grid[low + 1] - grid[low])
    return [(low, 1 - part), (low + 1, part)]
