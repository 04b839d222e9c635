"""Operations on axes: unify, split, merge, reshape, and moving positions about.

Every operation is sound: after it, any set of removed ids keeps the tensors consistent. Where the
exact coupling cannot be expressed, positions are coupled more than needed, or pinned.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.labels.axis import Axis
from fxprune.labels.digits import cuts_form_chain, digit_of
from fxprune.labels.store import IdMatrix, Ids, LabelStore

if TYPE_CHECKING:
    from collections.abc import Sequence


_LONGEST = 1 << 26
"""Axes with more positions are pinned: vectors of labels would take too much memory."""


class LabelAlgebra(LabelStore):
    """A label store that knows about axes. `place` is the event that pins are blamed on."""

    # -- making axes ------------------------------------------------------------------------

    def fresh_axis(self, size: int) -> Axis:
        """An axis whose positions are free; one of fewer than two, or of very many, is pinned."""
        if size > _LONGEST:
            return self.pinned_axis(size)
        return Axis(size, (self.fresh(size),)) if size > 1 else Axis(size)

    def pinned_axis(self, size: int, reason: Any = None) -> Axis:
        """An axis of which nothing can be removed."""
        return Axis(size, (), reason if reason is not None else self.place)

    def take(self, axis: Axis, index: Any, reason: Any = None) -> Axis:
        """Positions `index` (anything numpy indexes with) of an axis, in that order.

        A single position is pinned, for `reason`: such an axis broadcasts, and cannot go.
        """
        if isinstance(index, slice):
            size = len(range(axis.size)[index])
        else:
            size = len(np.empty(axis.size, dtype=np.bool_)[index])
        taken = Axis(size, tuple(v[index] for v in self.leaves(axis)), self._inherited([axis]))
        if size == 1:
            self.pin_axis(taken, reason)
        return taken

    def concat(self, axes: Sequence[Axis]) -> Axis:
        """Axes one after another."""
        if (size := sum(axis.size for axis in axes)) > _LONGEST:
            return self._too_long(axes, size)
        parts = [self.leaves(axis) for axis in axes]
        vectors = tuple(
            np.concatenate(
                [
                    part[k] if k < len(part) else np.zeros(axis.size, dtype=np.int64)
                    for part, axis in zip(parts, axes, strict=True)
                ]
            )
            for k in range(max(map(len, parts), default=0))
        )
        return Axis(size, vectors, self._inherited(axes))

    def merge(self, axes: Sequence[Axis]) -> Axis:
        """The axis of size n1 * n2 * ... that flattening consecutive axes gives."""
        sizes = [axis.size for axis in axes]
        if math.prod(sizes) > _LONGEST:
            return self._too_long(axes, math.prod(sizes))
        vectors: list[Ids] = []
        for k, axis in enumerate(axes):
            outer, inner = math.prod(sizes[:k]), math.prod(sizes[k + 1 :])
            vectors += [np.tile(np.repeat(v, inner), outer) for v in self.leaves(axis)]
        return Axis(math.prod(sizes), tuple(vectors), self._inherited(axes))

    def _too_long(self, axes: Sequence[Axis], size: int) -> Axis:
        for axis in axes:
            self.pin_axis(axis)
        return self.pinned_axis(size)

    def _inherited(self, axes: Sequence[Axis]) -> Any:
        """The reason of the first pinned axis: what is made of it is pinned for that reason."""
        return next((self.reason_of(axis) for axis in axes if not self.leaves(axis)), None)

    # -- constraints ------------------------------------------------------------------------

    def reason_of(self, axis: Axis) -> Any:
        """Why (a position of) an axis is pinned, or None."""
        if axis.reason is not None and not axis.vectors:
            return axis.reason
        for vector in self.roots(axis):
            pinned = vector[(vector != 0) & self.is_pinned(vector)]
            if pinned.size:
                return self.pin_reason(int(pinned[0]))
        return axis.reason

    def pin_axis(self, axis: Axis, reason: Any = None) -> None:
        """Forbid the removal of any position of an axis."""
        for vector in self.leaves(axis):
            self.pin(vector, reason if reason is not None else self.place)

    def unify(self, a: Axis, b: Axis) -> None:
        """Position by position: removed in `a` if and only if removed in `b`."""
        if a is b or not (a.vectors or b.vectors):
            return
        left, right = self.leaves(a), self.leaves(b)
        if not left and not right:
            return
        if not left or not right:
            pinned, other = (a, b) if right else (b, a)
            self.pin_axis(other, self.reason_of(pinned))
        elif len(left) == len(right) == 1:
            self.union(left[0], right[0], self.place)
        else:
            self._equate(left, right)

    def unify_with_each(self, axis: Axis, others: Sequence[Axis]) -> None:
        """Unify an axis with several.

        Those with one vector are united with one another in one step, which is quick, and one of
        them stands for all.
        """
        simple = [other for other in others if len(self.leaves(other)) == 1]
        is_simple = len(self.leaves(axis)) == 1
        same = [axis, *simple] if is_simple else simple
        if len(same) > 1:
            (first,), *rest = map(self.leaves, same)
            self.union(np.tile(first, len(rest)), np.concatenate([v for (v,) in rest]), self.place)
        for other in others:
            if other not in simple or (other is simple[0] and not is_simple):
                self.unify(axis, other)

    def _equate(self, a: Sequence[Ids], b: Sequence[Ids]) -> None:
        """Make any-of(a) equal any-of(b) at every position.

        Each round takes the positions where the two still differ and where the same vectors have
        ids, and takes one step on them; every step unites, pins or defines something.
        """
        size = len(a[0])
        while True:
            left, right = _stack(self.expand(a), size), _stack(self.expand(b), size)
            differ = _as_sets(left, len(right)) != _as_sets(right, len(left))
            where = np.flatnonzero(differ.any(axis=0))
            if not where.size:
                return
            used_left, used_right = left[:, where] != 0, right[:, where] != 0
            alike = (used_left == used_left[:, :1]).all(axis=0)
            alike &= (used_right == used_right[:, :1]).all(axis=0)
            self._step(
                list(left[np.ix_(used_left[:, 0], where[alike])]),
                list(right[np.ix_(used_right[:, 0], where[alike])]),
            )

    def _step(self, a: list[Ids], b: list[Ids]) -> None:
        """One step towards any-of(a) == any-of(b); all ids are free and none is 0."""
        common = [v for v in a if any(np.array_equal(v, w) for w in b)]
        a = [v for v in a if not any(np.array_equal(v, w) for w in common)]
        b = [v for v in b if not any(np.array_equal(v, w) for w in common)]
        if not a or not b:
            for vector in a + b:
                self.pin(vector, self.place)
            return
        if len(a) == 1 and len(b) == 1:
            self.union(a[0], b[0], self.place)
            return
        for v in a:
            for w in b:
                if np.array_equal(_pattern(v), _pattern(w)):
                    self.union(v, w, self.place)
                    return
        if len(a) == 1 or len(b) == 1:
            self._define_by(*((a[0], b) if len(a) == 1 else (b[0], a)))
            return
        if not self._refine_at_common_cuts(a + b):
            self._unite_all(a + b)

    def _define_by(self, vector: Ids, alternatives: list[Ids]) -> None:
        """Make the ids of one vector mean any of the ids beside them."""
        ids, first, inverse = np.unique(vector, return_index=True, return_inverse=True)
        spread = [alternative[first][inverse] for alternative in alternatives]
        if not np.array_equal(_as_sets(np.stack(spread)), _as_sets(np.stack(alternatives))):
            self._equate(alternatives, spread)
        elif np.isin(ids, np.concatenate(alternatives)).any():
            self._unite_all([vector, *alternatives])
        else:
            self.define(ids, [alternative[first] for alternative in alternatives], self.place)

    def _unite_all(self, vectors: list[Ids]) -> None:
        for vector in vectors[1:]:
            self.union(vectors[0], vector, self.place)

    def _refine_at_common_cuts(self, vectors: list[Ids]) -> bool:
        """Split every vector where any of them is cut; False if that changes nothing."""
        digits = [digit_of(vector) for vector in vectors]
        if any(digit is None for digit in digits):
            return False
        found = [digit for digit in digits if digit is not None]
        cuts = sorted({cut for d in found for cut in (d.inner, d.inner * len(d.ids))})
        if not cuts_form_chain([*cuts, len(vectors[0])]):
            return False
        before = self.version
        for digit in found:
            inside = [c for c in cuts if digit.inner < c < digit.inner * len(digit.ids)]
            if inside and self.version == before:
                self.refine(digit.ids, inside[0] // digit.inner, self.place)
        return self.version != before

    def mark_batch(self, axis: Axis, inner: Sequence[Axis]) -> None:
        """Note the batch axis of a contraction and the other axes: rows and columns of heads."""
        self.batch_ids += axis.vectors
        for other in inner:
            self.inner_ids += other.vectors

    def copies_axis(self, size: int) -> Axis:
        """The axis of an expanded dim: copies of one position, each of which can go alone."""
        axis = self.fresh_axis(size)
        self.copy_ids += [(ids, self.place) for ids in axis.vectors]
        return axis

    # -- reshape ----------------------------------------------------------------------------

    def split(
        self, axis: Axis, rows: int, columns: int, *, prefer_rows: bool = False
    ) -> tuple[Axis, Axis]:
        """Read an axis as a matrix (rows, columns): its row axis and its column axis.

        A vector constant along rows goes to the row axis, one constant along columns to the
        column axis; free ids are refined; else the rows are unified, so that the columns survive.
        """
        if rows == 1 or columns == 1:
            one = self.pinned_axis(1)
            return (one, axis) if rows == 1 else (axis, one)
        while True:
            row_vectors: list[Ids] = []
            column_vectors: list[Ids] = []
            hard: list[Ids] = []
            for vector in self.leaves(axis):
                matrix = vector.reshape(rows, columns)
                if (matrix == matrix[:, :1]).all():
                    row_vectors.append(matrix[:, 0].copy())
                elif (matrix == matrix[:1]).all():
                    column_vectors.append(matrix[0].copy())
                else:
                    hard.append(vector)
            if not hard:
                break
            if not any(self._refine_at(v, columns, prefer_rows=prefer_rows) for v in hard):
                self._equate(hard, [np.tile(v[:columns], rows) for v in hard])
                column_vectors += [v[:columns] for v in hard]
                break
        reason = self._inherited([axis])
        return Axis(rows, tuple(row_vectors), reason), Axis(columns, tuple(column_vectors), reason)

    def _refine_at(self, vector: Ids, cut: int, *, prefer_rows: bool) -> bool:
        digit = digit_of(vector)
        if digit is None or not cuts_form_chain([digit.inner, cut, digit.inner * len(digit.ids)]):
            return False
        self.refine(digit.ids, cut // digit.inner, self.place, prefer_rows=prefer_rows)
        return True

    def reshape(self, axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis]:
        """The axes of a tensor after `view(shape)`: cut to the common refinement, regroup."""
        result = [self.pinned_axis(size) for size in shape]
        source = [axis for axis in axes if axis.size != 1]
        target = [k for k, size in enumerate(shape) if size != 1]
        if 0 in shape:
            for axis in source:
                self.pin_axis(axis)
            return result
        i = j = 0
        while i < len(source) and j < len(target):
            i0, j0 = i, j
            n_in, n_out = source[i].size, shape[target[j]]
            i, j = i + 1, j + 1
            while n_in != n_out:
                if n_in < n_out:
                    n_in *= source[i].size
                    i += 1
                else:
                    n_out *= shape[target[j]]
                    j += 1
            sizes = [shape[k] for k in target[j0:j]]
            for k, axis in zip(target[j0:j], self._regroup(source[i0:i], sizes), strict=True):
                result[k] = axis
        return result

    def _regroup(self, axes: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
        """Axes of one block (equal products) regrouped into axes of `sizes`."""
        if len(axes) == len(sizes) == 1:
            return list(axes)
        cuts_in = _cuts([axis.size for axis in axes])
        cuts_out = _cuts(sizes)
        cuts = sorted({*cuts_in, *cuts_out}, reverse=True)
        if not any(self.leaves(axis) for axis in axes) or not cuts_form_chain(cuts[::-1]):
            for axis in axes:
                self.pin_axis(axis)
            return [self.pinned_axis(size, self._inherited(axes)) for size in sizes]
        atoms: list[Axis] = []
        for axis, low in zip(axes, [*cuts_in[1:], 1], strict=True):
            rest = axis
            for cut in (c for c in cuts if low < c < low * axis.size):
                columns = cut // low
                row, rest = self.split(rest, rest.size // columns, columns)
                atoms.append(row)
            atoms.append(rest)
        out = []
        for size in sizes:
            part = [atoms.pop(0)]
            while int(np.prod([atom.size for atom in part])) < size:
                part.append(atoms.pop(0))
            out.append(part[0] if len(part) == 1 else self.merge(part))
        return out


def _stack(vectors: Sequence[Ids], size: int) -> IdMatrix:
    return np.stack(vectors) if vectors else np.zeros((0, size), dtype=np.int64)


def _as_sets(matrix: IdMatrix, height: int = 0) -> IdMatrix:
    """Each column's ids as a set: sorted, without duplicates, filled up with zeros to `height`."""
    height = max(height, len(matrix))
    padding = np.zeros((height - len(matrix), matrix.shape[1]), dtype=np.int64)
    ordered = np.sort(np.concatenate([matrix, padding]), axis=0)
    ordered[1:][ordered[1:] == ordered[:-1]] = 0
    return np.sort(ordered, axis=0)


def _pattern(vector: Ids) -> Ids:
    """For each position, the first position with the same id."""
    _, first, inverse = np.unique(vector, return_index=True, return_inverse=True)
    pattern: Ids = first[inverse]
    return pattern


def _cuts(sizes: Sequence[int]) -> list[int]:
    """Sizes of the suffixes that each axis begins: (a, b, c) -> [abc, bc, c]."""
    products: Ids = np.cumprod(np.array(sizes, dtype=np.int64)[::-1])
    return [int(n) for n in products[::-1]]
