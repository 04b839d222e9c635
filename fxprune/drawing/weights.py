"""What the nodes of a picture weigh: parameters and work, before and after a plan."""

from __future__ import annotations

import copy
from math import prod
from typing import TYPE_CHECKING

from torch import nn

from fxprune.cost import undropped_cost
from fxprune.planning.branches import kinds_of
from fxprune.state_readers import readers_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.drawing.condensing import Part
    from fxprune.planning.layout import Layout


class Weights:
    """Parameters and multiply-accumulate operations of parts of a graph.

    A parameter is read by every part that mentions it under any of its names, and is counted where
    it is read first. `whole` is the cost of the model with the blocks that were dropped from it.
    """

    def __init__(self, deps: DependencyGraph, layout: Layout | None, parts: Sequence[Part]) -> None:
        self._deps = deps
        self._part_of = {op: number for number, part in enumerate(parts) for op in part.ops}
        self._read = self._reads(len(parts))
        self._owned: list[list[str]] = [[] for _ in parts]
        owners: dict[str, int] = {}
        for number, names in enumerate(self._read):
            for name in names:
                if owners.setdefault(name, number) == number:
                    self._owned[number].append(name)
        self.whole = undropped_cost(deps)
        self._dense_macs = deps.trace.dense_macs
        self._enter(layout)

    def _enter(self, layout: Layout | None) -> None:
        """Take up what is left after a plan."""
        self._layout = layout
        macs = self._dense_macs
        self._macs = macs if layout is None else self._deps.trace.macs(layout.shape)
        graph = self._deps.graph_module.graph
        kinds = kinds_of(graph, layout) if layout and layout.emptied else {}
        self._gone = {
            name for name, kind in kinds.items() if kind in ("gone", "constant", "number")
        }

    def after(self, layout: Layout) -> Weights:
        """The same parts after another plan."""
        twin = copy.copy(self)
        twin._enter(layout)
        return twin

    def _reads(self, count: int) -> list[dict[str, None]]:
        """For each part the tensors that it reads, under their first names."""
        found: list[dict[str, None]] = [{} for _ in range(count)]
        tied = self._deps.trace.tied
        for name, nodes in readers_of(self._deps.graph_module.graph, self._deps.state).items():
            for number in {self._part_of[op] for node in nodes for op in self._users(node)}:
                found[number][tied[name]] = None
        return found

    def _users(self, node: fx.Node) -> Iterator[fx.Node]:
        """The operators of parts that a mention of a tensor leads to."""
        pending, seen = [node], {node}
        while pending:
            each = pending.pop()
            if each in self._part_of:
                yield each
                continue
            pending += [user for user in each.users if user not in seen]
            seen.update(each.users)

    def read(self, number: int) -> Iterable[str]:
        """The tensors that a part reads, by their first names."""
        return self._read[number]

    def goes(self, ops: Iterable[str]) -> bool:
        """Whether nothing is left of some operators, since their branch has no channels."""
        return self._gone.issuperset(ops)

    def parameters(self, number: int) -> tuple[int, int]:
        """The parameters that are counted at a part, before and after."""
        before = after = 0
        for name in self._owned[number]:
            if isinstance(self._deps.state[name], nn.Parameter):
                axes = self._deps.trace.axes[name]
                before += prod(axis.size for axis in axes)
                if self._layout is not None:
                    after += prod(self._layout.size(axis) for axis in axes)
        return before, before if self._layout is None else after

    def macs(self, ops: Iterable[str]) -> tuple[int, int]:
        """The work of some operators, before and after."""
        found = tuple(ops)
        before, after = (sum(m[op] for op in found) for m in (self._dense_macs, self._macs))
        return before, after
