"""The sizes of axes after a removal, all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fxprune.labels import Axis, Ids, LabelAlgebra
    from fxprune.labels.masks import Mask
    from fxprune.labels.store import IdMatrix

Counts: TypeAlias = NDArray[np.int64]


class AxisSizes:
    """The sizes of axes after any removal.

    What a position depends on is the set of its ids: its *atom*. Axes with the same atoms, each as
    often, have the same size, in whatever order. Atoms that occur equally often on every axis form
    a family (roughly: a group of channels), so that sizes are linear in how much of each family is
    left. The axis of number 0 always has size 1.

    Args:
        axes: the axes; those of which nothing can be removed are left out.
        labels: the labels of the analysis.
    """

    def __init__(self, axes: Iterable[Axis], labels: LabelAlgebra) -> None:
        found: dict[tuple[int, bytes, bytes], int] = {}
        columns, amounts = [np.zeros((1, 1), dtype=np.int64)], [np.ones(1, dtype=np.int64)]
        self._numbers: dict[int, int] = {}
        self._axes = list(axes)  # keeps their ids from being given to others
        for axis in self._axes:
            if id(axis) in self._numbers or not (vectors := labels.leaves(axis)):
                continue
            atoms, count = _atoms(np.stack(vectors))
            key = len(vectors), atoms.tobytes(), count.tobytes()
            self._numbers[id(axis)] = found.setdefault(key, len(found) + 1)
            if len(found) == len(columns):
                columns.append(atoms)
                amounts.append(count)
        self._build(columns, amounts)

    def _build(self, columns: Sequence[IdMatrix], amounts: Sequence[Counts]) -> None:
        depth = max(map(len, columns))
        padded = [np.pad(atoms, ((depth - len(atoms), 0), (0, 0))) for atoms in columns]
        atoms, where = np.unique(np.concatenate(padded, axis=1), axis=1, return_inverse=True)
        on_axis = np.split(where.reshape(-1), np.cumsum([len(count) for count in amounts])[:-1])
        family = _families(on_axis, amounts, atoms.shape[1])
        order = np.argsort(family, kind="stable")
        self._ids: IdMatrix = atoms[:, order]
        self._starts = np.flatnonzero(np.diff(family[order], prepend=-1))
        self._weights: Counts = np.zeros((len(self._starts), len(columns)), dtype=np.int64)
        for axis, (present, count) in enumerate(zip(on_axis, amounts, strict=True)):
            self._weights[family[present], axis] = count

    def number(self, axis: Axis) -> int | None:
        """The number of an axis, or None if nothing of it can be removed."""
        return self._numbers.get(id(axis))

    def of(self, mask: Mask) -> Counts:
        """The size of every axis by its number.

        Args:
            mask: for every id of the analysis whether it is removed.
        """
        gone = mask[self._ids[0]]
        for row in self._ids[1:]:
            gone |= mask[row]
        return np.add.reduceat(~gone, self._starts, dtype=np.int64) @ self._weights


def _atoms(vectors: IdMatrix) -> tuple[IdMatrix, Counts]:
    """The columns of a matrix of ids as sets, in order, and how often each occurs."""
    atoms, count = np.unique(np.sort(vectors, axis=0), axis=1, return_counts=True)
    return atoms, count


def _families(on_axis: Sequence[Ids], amounts: Sequence[Counts], total: int) -> Ids:
    """For each atom the number of its family: they differ if they do on any axis."""
    family = np.zeros(total, dtype=np.int64)
    used = 1
    for present, count in zip(on_axis, amounts, strict=True):
        pairs = np.stack([family[present], count])
        family[present] = used + np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        used += len(present)
    numbers: Ids = np.unique(family, return_inverse=True)[1]
    return numbers
