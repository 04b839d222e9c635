"""Random programs over axes. Each operation leaves behind what it promised about the masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st

from fxprune.labels import Axis, LabelAlgebra
from fxprune.labels.masks import Mask, mask
from tests.labels.masks import tensor_mask

SIZES = (1, 2, 3, 4, 6, 8, 12, 24)
LARGEST = 96

Promise: TypeAlias = Callable[[Mask], tuple[Mask, Mask]]
Step: TypeAlias = tuple[str, int]
Program: TypeAlias = list[Step]


@dataclass
class Machine:
    """Runs a program: `axes` are its registers, `promises` what must hold for any removal.

    A step is the name of a method and a seed, which decides everything else about it. Every
    operation works on any axes that are there, so that each part of a program is a program too.
    """

    labels: LabelAlgebra = field(default_factory=LabelAlgebra)
    axes: list[Axis] = field(default_factory=list)
    promises: list[tuple[str, Promise]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.axes:
            self.axes += [self.labels.fresh_axis(12), self.labels.fresh_axis(4)]

    def run(self, program: Program) -> Machine:
        for name, seed in program:
            getattr(self, name)(np.random.default_rng(seed))
        return self

    def broken_promises(self, removed: Mask) -> list[str]:
        return [
            f"{what}: {left.astype(int).tolist()} is not {right.astype(int).tolist()}"
            for what, promise in self.promises
            for left, right in [promise(removed)]
            if not np.array_equal(left, right)
        ]

    def masks(self, removed: Mask) -> list[list[bool]]:
        return [mask(self.labels, axis, removed).tolist() for axis in self.axes]

    def meaning(self) -> list[list[list[int]]]:
        """The resolved vectors of every axis."""
        return [[v.tolist() for v in self.labels.expand(axis.vectors)] for axis in self.axes]

    # -- operations -------------------------------------------------------------------------

    def fresh_axis(self, random: np.random.Generator) -> None:
        self.axes.append(self.labels.fresh_axis(int(random.choice(SIZES))))

    def copies_axis(self, random: np.random.Generator) -> None:
        self.axes.append(self.labels.copies_axis(int(random.choice(SIZES))))

    def take(self, random: np.random.Generator) -> None:
        axis = self._pick(random)
        start, last = sorted(random.integers(0, axis.size, 2).tolist())
        index = (
            random.integers(0, axis.size, int(random.integers(1, 9))),
            random.permutation(axis.size),
            slice(start, last + 1),
            slice(None, None, -1),
            slice(start, None, 2),
        )[random.integers(5)]
        taken = self.labels.take(axis, index)
        self._promise("take", lambda r: (self._mask(axis, r)[index], self._mask(taken, r)), taken)

    def concat(self, random: np.random.Generator) -> None:
        parts = self._some(random, sum)
        joined = self.labels.concat(parts)
        self._promise(
            "concat",
            lambda r: (np.concatenate([self._mask(a, r) for a in parts]), self._mask(joined, r)),
            joined,
        )

    def merge(self, random: np.random.Generator) -> None:
        parts = self._some(random, math.prod)
        merged = self.labels.merge(parts)
        self._promise(
            "merge",
            lambda r: (tensor_mask(self.labels, parts, r).ravel(), self._mask(merged, r)),
            merged,
        )

    def split(self, random: np.random.Generator) -> None:
        axis = self._pick(random)
        rows = int(random.choice(_divisors(axis.size)))
        prefer_rows = bool(random.integers(2))
        parts = self.labels.split(axis, rows, axis.size // rows, prefer_rows=prefer_rows)
        self._promise(
            f"split {axis.size} into {parts[0].size} x {parts[1].size}",
            lambda r: (
                self._mask(axis, r).reshape(rows, -1),
                self._mask(parts[0], r)[:, None] | self._mask(parts[1], r)[None, :],
            ),
            *parts,
        )

    def reshape(self, random: np.random.Generator) -> None:
        before = self._some(random, math.prod)
        shape = _random_shape(random, math.prod(axis.size for axis in before))
        after = self.labels.reshape(before, shape)
        assert [axis.size for axis in after] == shape
        self._promise(
            f"reshape {[axis.size for axis in before]} to {shape}",
            lambda r: (
                tensor_mask(self.labels, before, r).reshape(shape),
                tensor_mask(self.labels, after, r),
            ),
            *after,
        )

    def unify(self, random: np.random.Generator) -> None:
        a = self._pick(random)
        same = [axis for axis in self.axes if axis.size == a.size]
        b = same[random.integers(len(same))]
        self.labels.unify(a, b)
        self._promise("unify", lambda r: (self._mask(a, r), self._mask(b, r)))

    def unify_with_each(self, random: np.random.Generator) -> None:
        a = self._pick(random)
        same = [axis for axis in self.axes if axis.size == a.size]
        others = [same[random.integers(len(same))] for _ in range(random.integers(4))]
        self.labels.unify_with_each(a, others)
        for b in others:
            self._promise("unify_with_each", lambda r, b=b: (self._mask(a, r), self._mask(b, r)))

    def pin_axis(self, random: np.random.Generator) -> None:
        axis = self._pick(random)
        self.labels.pin_axis(axis, "pinned by the program")
        self._promise("pin_axis", lambda r: (self._mask(axis, r), np.zeros(axis.size, np.bool_)))

    # -- parts of operations ----------------------------------------------------------------

    def _promise(self, what: str, promise: Promise, *made: Axis) -> None:
        self.promises.append((what, promise))
        self.axes += made

    def _mask(self, axis: Axis, removed: Mask) -> Mask:
        return mask(self.labels, axis, removed)

    def _pick(self, random: np.random.Generator) -> Axis:
        return self.axes[random.integers(len(self.axes))]

    def _some(
        self, random: np.random.Generator, total: Callable[[list[int]], int]
    ) -> Sequence[Axis]:
        """One to three axes of which `total` makes no more than the largest size."""
        chosen = [self._pick(random)]
        for _ in range(random.integers(3)):
            axis = self._pick(random)
            if total([*(a.size for a in chosen), axis.size]) <= LARGEST:
                chosen.append(axis)
        return chosen


def _divisors(n: int) -> list[int]:
    return [k for k in range(1, n + 1) if n % k == 0]


def _random_shape(random: np.random.Generator, total: int) -> list[int]:
    shape = []
    while total > 1 and len(shape) < 3:
        shape.append(int(random.choice(_divisors(total))))
        total //= shape[-1]
    return [*shape, total]


OPERATIONS = (
    "fresh_axis",
    "copies_axis",
    "take",
    "concat",
    "merge",
    "split",
    "reshape",
    "unify",
    "unify_with_each",
    "pin_axis",
)


def programs(longest: int = 20) -> st.SearchStrategy[Program]:
    """Programs to search through and to shrink."""
    # Splits and unions make things hard, pins make them easy.
    names = st.sampled_from([*OPERATIONS[:-1], "split", "unify", "reshape", "pin_axis"])
    return st.lists(st.tuples(names, st.integers(0, 2**16)), max_size=longest)
