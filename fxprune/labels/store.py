"""Channel ids: a vectorized union-find with pins and with ids that mean "any of these"."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fxprune.labels.axis import Axis

Ids: TypeAlias = NDArray[np.int64]
IdMatrix: TypeAlias = NDArray[np.int64]
_VERSIONS = itertools.count()


@dataclass(frozen=True)
class Refinement:
    """An axis of len(rows) * len(columns) ids that was split: id(i, j) := any-of(row i, column j).

    `place` is where it happened; `prefer_rows` says that the rows are what a user would call
    channels (a depth multiplier), not the columns.
    """

    rows: Ids
    columns: Ids
    place: Any
    prefer_rows: bool = False


class LabelStore:
    """Hands out ids, unites them, pins them, and resolves them.

    Three states of a root id: *free*, *pinned* (`pinned_by` indexes `reasons`), or *composite*
    (removed if and only if any of its two parts is removed). Only free roots are ever united or
    defined, so the forest of composites has no cycle. Roots are the smallest id of their class,
    which makes every outcome deterministic.

    `place` is the event that is going on. Beside the reason of every pin, `pin_places` has the
    place where it was made: where channels met the positions that must stay.
    """

    def __init__(self) -> None:
        self.place: Any = None
        self._parent = np.arange(1 << 12, dtype=np.int64)
        self._left = np.zeros(1 << 12, dtype=np.int64)
        self._right = np.zeros(1 << 12, dtype=np.int64)
        self._pinned_by = np.zeros(1 << 12, dtype=np.int64)
        self._count = 1
        self._has_composites = False
        self.version = next(_VERSIONS)
        self.reasons: list[Any] = [None, "constant"]
        self.pin_places: list[Any] = [None, None]
        self.refinements: list[Refinement] = []
        self.batch_ids: list[Ids] = []
        self.inner_ids: list[Ids] = []
        self.copy_ids: list[tuple[Ids, Any]] = []
        self._pinned_by[0] = 1

    def __len__(self) -> int:
        return self._count

    def copy(self) -> Self:
        """An independent store that knows the same ids."""
        twin = copy.copy(self)
        for name in ("_parent", "_left", "_right", "_pinned_by"):
            setattr(twin, name, getattr(self, name).copy())
        for name in ("reasons", "pin_places", "refinements", "batch_ids", "inner_ids", "copy_ids"):
            setattr(twin, name, list(getattr(self, name)))
        twin.version = next(_VERSIONS)
        return twin

    def fresh(self, n: int) -> Ids:
        """`n` new free ids."""
        need = self._count + n
        if need > len(self._parent):
            size = max(need, 2 * len(self._parent))
            for name in ("_left", "_right", "_pinned_by"):
                grown = np.zeros(size, dtype=np.int64)
                grown[: self._count] = getattr(self, name)[: self._count]
                setattr(self, name, grown)
            parent = np.arange(size, dtype=np.int64)
            parent[: self._count] = self._parent[: self._count]
            self._parent = parent
        ids = np.arange(self._count, need, dtype=np.int64)
        self._count = need
        return ids

    def agrees_with(self, earlier: LabelStore) -> bool:
        """Whether this copy of `earlier` has united, pinned or defined none of the ids there."""
        ids = np.arange(len(earlier), dtype=np.int64)
        roots = earlier.find(ids)
        return bool(
            np.array_equal(self.find(ids), roots)
            and np.array_equal(self._pinned_by[roots] != 0, earlier._pinned_by[roots] != 0)
            and np.array_equal(self._left[roots], earlier._left[roots])
        )

    def find(self, ids: Ids) -> Ids:
        """The root of every id (with path compression)."""
        root: Ids = self._parent[ids]
        above = self._parent[root]
        if not np.count_nonzero(above != root):
            return root
        while np.count_nonzero(above != root):
            root, above = above, self._parent[above]
        self._parent[ids] = root
        return root

    def is_pinned(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of the free or pinned `ids` are pinned."""
        pinned: NDArray[np.bool_] = self._pinned_by[self.find(ids)] != 0
        return pinned

    def pins(self, ids: Ids) -> Ids:
        """For each id the number of its reason, 0 if it is free."""
        return self._pinned_by[self.find(ids)]

    def pin_reason(self, any_id: int) -> Any:
        """Why an id is pinned, or None."""
        root = self.find(np.array([any_id], dtype=np.int64))[0]
        return self.reasons[self._pinned_by[root]]

    def expand(self, vectors: Sequence[Ids], *, keep_pinned: bool = False) -> tuple[Ids, ...]:
        """Vectors of roots that mean the same, without composites, duplicates and empty ones.

        Pinned ids become 0 unless `keep_pinned`.
        """
        out: list[Ids] = []
        pending = list(vectors)[::-1]
        while pending:
            roots = self.find(pending.pop())
            if self._has_composites:
                left = self._left[roots]
                composite = left != 0
                if np.count_nonzero(composite):
                    pending.append(np.where(composite, self._right[roots], 0))
                    pending.append(np.where(composite, left, roots))
                    continue
            if not keep_pinned:
                pinned = self._pinned_by[roots]
                if np.count_nonzero(pinned):
                    roots = np.where(pinned != 0, 0, roots)
            if np.count_nonzero(roots) and not any(np.array_equal(roots, seen) for seen in out):
                out.append(roots)
        return tuple(out)

    def marked(self, vectors: Sequence[Ids], *, keep_pinned: bool = False) -> NDArray[np.bool_]:
        """For every id whether it is a root on any of the vectors; free ones only by default."""
        found = np.zeros(len(self), dtype=np.bool_)
        for vector in vectors:
            found[vector] = True
        pending = np.flatnonzero(found)
        found[:] = False
        while pending.size:
            roots = self.find(pending)
            composite = roots[self._left[roots] != 0]
            found[roots] = True
            found[composite] = False
            pending = np.concatenate([self._left[composite], self._right[composite]])
        if not keep_pinned:
            found &= self._pinned_by[: len(self)] == 0
        found[0] = False
        return found

    def leaves(self, axis: Axis) -> tuple[Ids, ...]:
        """The resolved label vectors of an axis; none if it is pinned."""
        if not axis.vectors:
            return ()
        version, vectors = axis.cache
        if version != self.version:
            vectors = self.expand(axis.vectors)
            axis.cache = (self.version, vectors)
        return vectors

    def roots(self, axis: Axis) -> tuple[Ids, ...]:
        """As `leaves`, with the pinned ids."""
        if not axis.vectors:
            return ()
        version, vectors = axis.whole
        if version != self.version:
            vectors = self.expand(axis.vectors, keep_pinned=True)
            axis.whole = (self.version, vectors)
        return vectors

    def resolve(self, axes: Collection[Axis]) -> None:
        """Look up `leaves` and `roots` of many axes at once, which is quicker than one by one."""
        unknown = [a for a in axes if len(a.vectors) == 1 and a.cache[0] != self.version]
        vectors = {id(axis.vectors[0]): axis.vectors[0] for axis in unknown}
        if not vectors:
            return
        ends = np.cumsum([len(vector) for vector in vectors.values()]).tolist()
        roots = self.find(np.concatenate(list(vectors.values())))
        composite = self._left[roots] != 0
        free = np.where(self._pinned_by[roots] != 0, 0, roots)
        roots.flags.writeable = free.flags.writeable = False
        found: dict[int, tuple[tuple[Ids, ...], tuple[Ids, ...]]] = {}
        for key, start, end in zip(vectors, [0, *ends[:-1]], ends, strict=True):
            if not composite[start:end].any():
                parts = roots[start:end], free[start:end]
                whole, leaves = ((part,) if part.any() else () for part in parts)
                found[key] = (leaves, whole)
        for axis in unknown:
            if (both := found.get(id(axis.vectors[0]))) is not None:
                axis.cache, axis.whole = ((self.version, own) for own in both)

    def pin(self, ids: Ids, reason: Any) -> None:
        """Forbid the removal of `ids`."""
        leaves = np.concatenate([*self.expand([ids]), np.zeros(0, dtype=np.int64)])
        leaves = leaves[leaves != 0]
        if leaves.size:
            self.reasons.append(reason)
            self.pin_places.append(self.place)
            self._pinned_by[leaves] = len(self.reasons) - 1
            self.version = next(_VERSIONS)

    def union(self, a: Ids, b: Ids, reason: Any) -> None:
        """Unite free ids element by element; an id that meets 0 is pinned for `reason`."""
        if not (a.all() and b.all()):
            self.pin(np.concatenate([a[b == 0], b[a == 0]]), reason)
            both = (a != 0) & (b != 0)
            a, b = a[both], b[both]
        while True:
            a, b = self.find(a), self.find(b)
            differ = a != b
            if not differ.any():
                return
            a, b = a[differ], b[differ]
            low, high = np.minimum(a, b), np.maximum(a, b)
            self._parent[high] = low
            pinned = high[self._pinned_by[high] != 0]
            if pinned.size:
                self._pinned_by[self.find(pinned)] = self._pinned_by[pinned]
            self.version = next(_VERSIONS)

    def define(self, ids: Ids, alternatives: Sequence[Ids], reason: Any) -> None:
        """Make each free id mean any of the ids beside it: id[k] := any-of(alternatives[*][k]).

        `ids` are distinct free roots, none of which occurs among the alternatives.
        """
        stack = np.stack(alternatives)
        stack = np.take_along_axis(stack, np.argsort(stack == 0, axis=0, kind="stable"), axis=0)
        count = (stack != 0).sum(axis=0)
        self.pin(ids[count == 0], reason)
        single = count == 1
        self.union(ids[single], stack[0][single], reason)
        while (many := count > 1).any():
            ids, stack, count = ids[many], stack[:, many], count[many]
            rest = self.fresh(len(ids))
            last = count == 2
            rest[last] = stack[1][last]
            self._left[ids] = stack[0]
            self._right[ids] = rest
            self._has_composites = True
            self.version = next(_VERSIONS)
            ids, stack, count = rest, stack[1:], count - 1

    def refine(self, ids: Ids, columns: int, place: Any, *, prefer_rows: bool = False) -> None:
        """Make distinct free ids, read as a matrix, mean any-of(row, column)."""
        row_ids = self.fresh(len(ids) // columns)
        column_ids = self.fresh(columns)
        self.define(ids, [np.repeat(row_ids, columns), np.tile(column_ids, len(row_ids))], place)
        self.refinements.append(Refinement(row_ids, column_ids, place, prefer_rows))
