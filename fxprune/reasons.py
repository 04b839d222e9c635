"""Why-not: from a name to its axes, and from a pinned axis to the place where it was pinned."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fxprune.errors import Diagnostic, InputError, Location, PlanError, shown
from fxprune.explanations import AxisReason, Explanation
from fxprune.rules import Place, as_diagnostic, locate
from fxprune.suggestions import nearest
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Axis, Ids

_SINGLE = Diagnostic("this is a single channel, and one always stays")
_ONE = Diagnostic("the axis has a single position, and one always stays")
_INTEGERS = Diagnostic("it holds integers, which move or count channels but carry none")
_UNUSED = Diagnostic("no operator reads it", hint="remove it from the model")


def explain(deps: DependencyGraph, pattern: str) -> Explanation:
    """Tell for every axis of what `pattern` names whether it can be pruned, and why not.

    Raises:
        PlanError: nothing has that name; the message tells the nearest names.
    """
    return Explanation.of(deps, pattern, tuple(_Explainer(deps).axes(pattern)))


class _Explainer:
    """Looks things up in an analysis."""

    def __init__(self, deps: DependencyGraph) -> None:
        self.deps = deps
        self.labels = deps.trace.labels
        self.number_of = np.full(len(self.labels), -1, dtype=np.int64)
        for number, group in enumerate(deps.groups):
            self.number_of[group.ids] = number
        self._ways: dict[tuple[str, str, bytes], tuple[fx.Node, ...]] = {}

    def axes(self, pattern: str) -> Iterator[AxisReason]:
        """The entries for everything that a name or pattern means."""
        if not isinstance(pattern, str):
            raise InputError(f"the pattern is {shown(pattern)}", hint="pass a name as a string")
        names = [n for n in self.deps.state if any(_means(pattern, p) for p in _prefixes(n))]
        if names:
            for name in names:
                for dim in range(self.deps.state[name].dim()):
                    yield from self.axis(name, dim)
            return
        groups = [g for g in self.deps.groups if _means(pattern, g.name)]
        if not groups:
            raise self.unknown(pattern)
        for group in groups:
            for member in group.members:
                found = self.axis(member.parameter, member.dim)
                yield from (entry for entry in found if entry.group == group.name)

    def unknown(self, pattern: str) -> PlanError:
        """The error for a name that means nothing."""
        names = [prefix for name in self.deps.state for prefix in _prefixes(name)]
        unused = [d.what for d in self.deps.remarks if _means(pattern, d.what.split(" ")[0])]
        return PlanError(
            f"no module with parameters, parameter or group matches {pattern!r}",
            why="; ".join(unused),
            hint=nearest(pattern, [*names, *(group.name for group in self.deps.groups)]),
        )

    def axis(self, name: str, dim: int) -> Iterator[AxisReason]:
        """One entry for each group on an axis, and for the positions that belong to none."""
        trace = self.deps.trace
        axis = trace.axes[name][dim]
        if plain := self.without_channels(name, axis):
            yield AxisReason(name, dim, axis.size, axis.size, "", "", False, plain)
            return
        vectors = self.labels.roots(axis)
        ids = np.unique(np.concatenate(vectors))
        numbers = self.number_of[ids]
        keys = np.stack([numbers, np.where(numbers < 0, self.labels.pins(ids), 0)])
        for number, pin in np.unique(keys[:, ids != 0], axis=1).T.tolist():
            members = ids[(keys[0] == number) & (keys[1] == pin) & (ids != 0)]
            positions = sum(np.isin(vector, members) for vector in vectors) > 0
            yield self.entry(name, dim, axis, members, int(np.count_nonzero(positions)))

    def without_channels(self, name: str, axis: Axis) -> Diagnostic | None:
        """The reason of an axis that never carried channels."""
        trace, tensor = self.deps.trace, self.deps.state[name]
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return _INTEGERS
        if trace.tied[name] not in trace.touched:
            return _UNUSED
        return None if axis.vectors else _ONE

    def entry(self, name: str, dim: int, axis: Axis, ids: Ids, positions: int) -> AxisReason:
        """The entry for ids of one group, or of none, on an axis."""
        number = int(self.number_of[ids[0]])
        group = self.deps.groups[number] if number >= 0 else None
        title, kind = (group.name, group.kind) if group else ("", "")
        entry = partial(AxisReason, name, dim, axis.size, positions, title, kind)
        if group and group.prunable:
            return entry(True)
        pin = int(self.labels.pins(ids[:1])[0])
        if not pin:
            return entry(False, _SINGLE)
        origin, met = self.labels.reasons[pin], self.labels.pin_places[pin]
        way = self.way(name, ids, met) if isinstance(met, Place) else ()
        joints = [node for node in way[1:] if self.joins(node, ids)]
        if isinstance(origin, Place) and way and way[-1].name != origin.node.name:
            joints = list(dict.fromkeys([*joints, way[-1]]))
        return entry(False, _reason(origin, met), _located(way), _located(joints))

    @cached_property
    def carried(self) -> dict[str, Ids]:
        """For each node the ids that its value carries, sorted."""
        found = {}
        for node in self.deps.graph_module.graph.nodes:
            vectors = [
                vector
                for tensor in traced_tensors(self.deps.trace.values.get(node.name))
                for axis in tensor.axes
                for vector in self.labels.roots(axis)
            ]
            found[node.name] = np.unique(np.concatenate([[0], *vectors]))
        return found

    def carries(self, node: fx.Node, ids: Ids) -> bool:
        """Whether a node's value has any of these channels."""
        return bool(np.isin(ids, self.carried[node.name]).any())

    def joins(self, node: fx.Node, ids: Ids) -> bool:
        """Whether a node couples several values that have these channels."""
        sources = [n for n in node.all_input_nodes if n.op != "get_attr"]
        return node.op != "output" and sum(self.carries(n, ids) for n in sources) > 1

    def way(self, name: str, ids: Ids, met: Place) -> tuple[fx.Node, ...]:
        """The shortest way along values with these channels, from a parameter to a node."""
        key = (name, met.node.name, ids.tobytes())
        if key not in self._ways:
            self._ways[key] = self.search(self.readers(name), ids, met.node.name)
        return self._ways[key]

    def search(self, starts: list[fx.Node], ids: Ids, goal: str) -> tuple[fx.Node, ...]:
        """Breadth first, against the data too: what is coupled is coupled both ways."""
        before: dict[fx.Node, fx.Node | None] = dict.fromkeys(starts)
        pending = deque(starts)
        while pending:
            node = pending.popleft()
            if node.name == goal:
                return _back(node, before)
            for other in [*node.users, *node.all_input_nodes]:
                if other not in before and (other.name == goal or self.carries(other, ids)):
                    before[other] = node
                    pending.append(other)
        return ()

    def readers(self, name: str) -> list[fx.Node]:
        """The nodes that read a parameter under any of its names."""
        tied = self.deps.trace.tied
        names = [other for other in tied if tied[other] == tied[name]]
        return [
            node
            for node in self.deps.graph_module.graph.nodes
            if node.op in ("call_module", "get_attr")
            and any(n == node.target or n.startswith(f"{node.target}.") for n in names)
        ]


def _reason(origin: Any, met: Any) -> Diagnostic:
    """Why channels stay. An axis that an operator made without a word was not coupled there."""
    if isinstance(origin, Place) and origin.what == Place.what and origin != met:
        maker = origin.op._schema.name.split("::")[1] if origin.op else origin.node.name
        origin = origin.because(f"they are coupled to an axis of {maker}, all of which stays")
    return as_diagnostic(origin)


def _back(node: fx.Node, before: dict[fx.Node, fx.Node | None]) -> tuple[fx.Node, ...]:
    """The way from a start to a node, without the mere mention of a parameter."""
    found: list[fx.Node] = []
    step: fx.Node | None = node
    while step is not None:
        found.append(step)
        step = before[step]
    return tuple(n for n in reversed(found) if n.op != "get_attr")


def _located(nodes: Iterable[fx.Node]) -> tuple[Location, ...]:
    return tuple(locate(node) for node in nodes)


def _means(pattern: str, name: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _prefixes(name: str) -> list[str]:
    """A parameter's name after those of the modules that hold it, the outermost first."""
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts) + 1)]
