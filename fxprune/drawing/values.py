"""What flows along the edges of a picture, and which group a node is coloured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fxprune.axis_groups import AxisGroups
from fxprune.drawing.pictures import Value
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.planning.layout import Layout
    from fxprune.traces import TracedTensor


class Values:
    """Looks up what the analysis, and the layout of a plan, know of the values of operators."""

    def __init__(self, deps: DependencyGraph, layout: Layout | None) -> None:
        self._trace = deps.trace
        self._layout = layout
        self._groups = AxisGroups(deps.groups, deps.trace.labels)
        self._by_name = {group.name: group for group in deps.groups}
        self._found: dict[int, Value] = {}

    def of(self, op: fx.Node) -> tuple[Value, ...]:
        """The different tensors of an operator's value."""
        tensors = traced_tensors(self._trace.values.get(op.name))
        return tuple(dict.fromkeys(map(self.value, tensors)))

    def of_all(self, ops: Iterable[fx.Node]) -> tuple[Value, ...]:
        """The different tensors of the values of several operators."""
        return tuple(dict.fromkeys(value for op in ops for value in self.of(op)))

    def value(self, tensor: TracedTensor) -> Value:
        """A tensor as it is drawn."""
        if id(tensor) not in self._found:
            on = [self._groups.on(axis) for axis in tensor.axes]
            free = [d for d, each in enumerate(on) if any(g.pinned is None for g in each.groups)]
            dims = free or [dim for dim, each in enumerate(on) if each.groups]
            covering = [group for dim in dims for group in on[dim].covering]
            main = min(covering, key=lambda group: group.pinned is not None, default=None)
            self._found[id(tensor)] = Value(
                before=tensor.shape,
                after=tensor.shape if self._layout is None else self._layout.shape(tensor),
                dims=tuple(dims),
                groups=tuple(tuple(group.name for group in on[dim].groups) for dim in dims),
                group=main.name if main is not None else "",
            )
        return self._found[id(tensor)]

    def groups(self, values: Iterable[Value]) -> dict[str, Group]:
        """The groups that some values show, by name."""
        names = (name for value in values for on in value.groups for name in on)
        return {name: self._by_name[name] for name in names}
