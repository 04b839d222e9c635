"""The layout of a model after a removal: what is left of every axis of every tensor."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fxprune.errors import PlanError
from fxprune.planning.branches import why_not
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis, Ids, LabelAlgebra
    from fxprune.traces import TracedTensor


class Layout:
    """Which positions of which axis stay, for a set of removed ids.

    A position is removed if and only if any of its ids is removed. Passes read their predictions
    from here; they never analyze.

    Args:
        deps: the analysis.
        removed: the removed ids.

    An axis may lose all its positions; then whatever carries it goes (`branches.py`).

    Raises:
        PlanError: some axis would lose all its positions, and cannot.
    """

    def __init__(self, deps: DependencyGraph, removed: Ids) -> None:
        self.deps = deps
        self.original = deps.graph_module
        self.labels: LabelAlgebra = deps.trace.labels
        self._removed = np.zeros(len(deps.trace.labels), dtype=np.bool_)
        self._removed[deps.trace.labels.find(removed)] = True
        self._kept = self._kept_at_once()
        self._added: dict[str, Any] = {}
        if self.emptied and (why := why_not(deps.graph_module.graph, self)):
            raise PlanError(
                f"nothing would be left of {self.emptied}",
                why=why,
                hint="keep at least one channel there",
            )

    def _kept_at_once(self) -> dict[int, NDArray[np.int64] | None]:
        """What `kept` finds for the axes of the analysis: those with one vector in one step.

        Axes that keep the same positions share one array.
        """
        leaves = {id(axis): self.labels.leaves(axis) for axis in self.deps.trace.all_axes}
        found: dict[int, NDArray[np.int64] | None]
        found = {key: None for key, own in leaves.items() if not own}
        vectors = {key: own[0] for key, own in leaves.items() if len(own) == 1}
        if not vectors:
            return found
        removed = self._removed[np.concatenate(list(vectors.values()))]
        shared: dict[bytes, NDArray[np.int64] | None] = {}
        end = 0
        for key, vector in vectors.items():
            start, end = end, end + len(vector)
            gone = removed[start:end]
            code = gone.tobytes()
            if code not in shared:
                shared[code] = _staying(gone)
            found[key] = shared[code]
        return found

    def is_removed(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of these root ids are removed; ids that came later are not."""
        if not ids.size or ids.max() < len(self._removed):
            return self._removed[ids]
        inside = ids < len(self._removed)
        return np.where(inside, self._removed[np.where(inside, ids, 0)], False)

    def removed_positions(self, axis: Axis, labels: LabelAlgebra) -> NDArray[np.bool_]:
        """A mask of the removed positions of an axis, under the given labels."""
        gone = np.zeros(axis.size, dtype=np.bool_)
        for vector in labels.leaves(axis):
            gone |= self.is_removed(vector)
        return gone

    def is_coupled_otherwise(self, labels: LabelAlgebra) -> bool:
        """Whether a later copy of the analysis' labels couples removed channels to kept ones."""
        ids = np.arange(len(self.deps.trace.labels), dtype=np.int64)

        def removed(labels: LabelAlgebra) -> NDArray[np.bool_]:
            gone = np.zeros(len(ids), dtype=np.bool_)
            for vector in labels.expand([ids]):
                gone |= self.is_removed(vector)
            return gone

        return bool((removed(self.deps.trace.labels) != removed(labels)).any())

    def kept(self, axis: Axis) -> NDArray[np.int64] | None:
        """The kept positions of an axis in order, or None if all are kept."""
        key = id(axis)
        if key not in self._kept:
            self._kept[key] = _staying(self.removed_positions(axis, self.labels))
        return self._kept[key]

    def size(self, axis: Axis) -> int:
        """How many positions of an axis stay."""
        kept = self.kept(axis)
        return axis.size if kept is None else len(kept)

    def shape(self, tensor: TracedTensor) -> tuple[int, ...]:
        """The shape that a tensor will have."""
        return tuple(self.size(axis) for axis in tensor.axes)

    def value(self, node: str) -> Any:
        """What the analysis saw at a node: numbers, and a TracedTensor for each tensor."""
        return self._added[node] if node in self._added else self.deps.trace.values.get(node)

    def extended(self, values: Mapping[str, Any]) -> Layout:
        """The same layout, which also knows the values of nodes that a rewrite made."""
        twin = copy.copy(self)
        twin._kept = self._kept.copy()
        twin._added = {**self._added, **values}
        return twin

    def under(self, labels: LabelAlgebra) -> Layout:
        """The same layout for axes with labels of a later copy of the analysis'."""
        twin = copy.copy(self)
        twin.labels = labels
        twin._kept = {}
        return twin

    def on(self, original: fx.GraphModule) -> Layout:
        """The same layout; what branches without channels still add is found on other weights."""
        twin = copy.copy(self)
        twin.original = original
        return twin

    def tensors(self, node: str) -> list[TracedTensor]:
        """The tensors of a node's value."""
        return traced_tensors(self.value(node))

    @cached_property
    def slices(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """For each state tensor that loses something: dim -> removed positions."""
        found: dict[str, dict[int, tuple[int, ...]]] = {}
        known: dict[tuple[int, int], tuple[int, ...]] = {}
        for name, axes in self.deps.trace.axes.items():
            for dim, axis in enumerate(axes):
                kept = self.kept(axis)
                if kept is not None:
                    key = (id(kept), axis.size)
                    if key not in known:
                        known[key] = tuple(np.delete(np.arange(axis.size), kept).tolist())
                    found.setdefault(name, {})[dim] = known[key]
        return found

    @cached_property
    def emptied(self) -> str:
        """The first axis that loses all its positions, in words; an empty text if none does."""
        if all(not axis.size or self.size(axis) for axis in self.deps.trace.all_axes):
            return ""
        for name, axes in self.deps.trace.axes.items():
            for dim, axis in enumerate(axes):
                if axis.size and self.size(axis) == 0:
                    return f"{name}, dim {dim}"
        for name in self.deps.trace.values:
            for tensor in self.tensors(name):
                for dim, axis in enumerate(tensor.axes):
                    if axis.size and self.size(axis) == 0:
                        return f"the value of node {name}, dim {dim}"
        return ""


def _staying(gone: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """The positions that a mask of removed ones leaves, in order, or None if it leaves all."""
    return np.flatnonzero(~gone) if gone.any() else None
