"""What every layer of a model has and does, before and after a plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from fxprune.axis_groups import AxisGroups
from fxprune.drawing.naming import class_name, operator_name
from fxprune.module_trees import parameters_in
from fxprune.planning.branches import Kind, kinds_of
from fxprune.rules.place import module_path
from fxprune.state_readers import readers_of
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.dropping import Drop
    from fxprune.errors import Diagnostic
    from fxprune.labels import Axis
    from fxprune.planning import Plan
    from fxprune.planning.layout import Layout
    from fxprune.traces import TracedTensor, Work

aten = torch.ops.aten
_SECOND = frozenset({aten.addmm, aten.baddbmm, aten.addbmm})
"""Products whose first operand is what is added to them."""
_CONVOLUTIONS = frozenset({aten.convolution, aten._convolution})
_THERE = ("live", "state")
"""Kinds of nodes that a graph keeps where branches go."""
_WITHOUT_WEIGHTS = frozenset({aten.bmm, aten.baddbmm})
_CONVOLUTION_KINDS = frozenset({"Conv1d", "Conv2d", "Conv3d"})
_NO_LAYER = "(in no layer)"
"""Work of the user's forward that neither the graph nor a dropped block does."""


@dataclass(frozen=True)
class Change:
    """A number before and after a plan."""

    before: int
    after: int

    @classmethod
    def total(cls, changes: Iterable[Change]) -> Change:
        """The sum of several."""
        listed = list(changes)
        return cls(sum(each.before for each in listed), sum(each.after for each in listed))

    @property
    def left(self) -> float | None:
        """The share that is left, from 0 to 1; None of nothing."""
        return self.after / self.before if self.before else None

    @property
    def changed(self) -> bool:
        """Whether the plan changes it."""
        return self.before != self.after


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own or with work, or such an operator between modules.

    Attributes:
        name: path of the module; at the top level of the model, where operators and parameters
            have no module of their own, the name of the node or of the parameter.
        kind: class of the module; of an operator its name; "Parameter".
        width_in: number of channels that it takes; None if it has no weights to tell.
        width_out: number of channels that it returns; None if it has no weights to tell.
        parameters: number of its parameters. Tied ones count where they come first.
        macs: multiply-accumulate operations of one forward on the example inputs.
        groups: names of the groups of channels on it, those that it puts out first.
        pinned: why none of the channels that it puts out can go; None if some can.
        dropped: whether it is a residual block that goes whole.
    """

    name: str
    kind: str
    width_in: Change | None
    width_out: Change | None
    parameters: Change
    macs: Change
    groups: tuple[str, ...] = ()
    pinned: Diagnostic | None = None
    dropped: bool = False

    @property
    def changed(self) -> bool:
        """Whether the plan changes anything of it."""
        found = (self.width_in, self.width_out, self.parameters, self.macs)
        return any(change is not None and change.changed for change in found)


def layers_of(deps: DependencyGraph, plan: Plan | None = None) -> tuple[Layer, ...]:
    """The layers of an analyzed model, and what a plan does to each.

    Their parameters and MACs add up to the cost of the model, and to that of the graph that
    `fxprune.shrink` makes of it without folding constants.

    Args:
        deps: the analysis; of the model without the blocks that the plan drops, if it drops any.
        plan: what goes; None for the model as it is.

    Returns:
        A row for each module that has parameters or work, in the order of the graph; those that
        the graph does not use come last.

    Raises:
        PlanError: the plan is for another model.
    """
    layout = None if plan is None else plan.layout(deps)
    sizes = {name: p.numel() for name, p in deps.graph_module.named_parameters()}
    macs = deps.trace.dense_macs
    if layout is not None:
        kinds = kinds_of(deps.graph_module.graph, layout) if layout.emptied else {}
        gone = _gone(deps, kinds) if kinds else set()
        sizes = {n: 0 if n in gone else _size_in(deps, layout, n) for n in sizes}
        macs = deps.trace.macs(layout.shape)
        macs = Counter({n: m for n, m in macs.items() if kinds.get(n, "live") in _THERE})
    before = sizes_before(deps, deps.graph_module)
    return _Table(deps, layout, before).rows(sizes, macs)


def sizes_before(deps: DependencyGraph, original: nn.Module) -> dict[str, int]:
    """The entries of every parameter of the original, with those of dropped blocks.

    Args:
        deps: the analysis of the original.
        original: what is compared: the captured graph, or the user's module.
    """
    whole = original if deps.drop is None else deps.drop.model
    return {name: p.numel() for name, p in parameters_in(whole).items()}


def layers_made(
    deps: DependencyGraph,
    layout: Layout,
    before: Mapping[str, int],
    small: nn.Module,
    macs: Mapping[str, int],
) -> tuple[Layer, ...]:
    """The layers of a model that was made smaller: those of `layers_of`, with its real sizes.

    Args:
        deps: the analysis of the original, whose weights may be gone.
        layout: what stays of it.
        before: see `sizes_before`.
        small: the result.
        macs: its work by node.
    """
    sizes = {name: p.numel() for name, p in parameters_in(small).items()}
    return _Table(deps, layout, before).rows(sizes, macs)


def _size_in(deps: DependencyGraph, layout: Layout, name: str) -> int:
    """The entries of a parameter that stay."""
    axes = deps.trace.axes.get(name)
    return deps.state[name].numel() if axes is None else prod(layout.size(axis) for axis in axes)


def _gone(deps: DependencyGraph, kinds: Mapping[str, Kind]) -> set[str]:
    """The names of tensors that nothing reads but what goes with a branch."""
    readers: dict[str, list[fx.Node]] = {}
    for name, nodes in readers_of(deps.graph_module.graph, deps.trace.tied).items():
        readers.setdefault(deps.trace.tied[name], []).extend(nodes)
    gone = {name for name, nodes in readers.items() if nodes and not _is_live(nodes, kinds)}
    return {name for name, first in deps.trace.tied.items() if first in gone}


def _is_live(nodes: Iterable[fx.Node], kinds: Mapping[str, Kind]) -> bool:
    """Whether what nodes yield, or what is computed of it and weights alone, meets live data."""
    pending = list(nodes)
    seen = set(pending)
    while pending:
        node = pending.pop()
        if kinds[node.name] == "live":
            return True
        if kinds[node.name] == "state":
            pending += [user for user in node.users if user not in seen]
            seen.update(node.users)
    return False


@dataclass
class _Row:
    """What is gathered for a layer."""

    kind: str
    parameters: dict[str, None]
    nodes: dict[str, None]


class _Table:
    """Finds the layers of an analysis, and what each holds.

    Args:
        deps: the analysis.
        layout: what stays, or None.
        sizes: the entries of every parameter before.
    """

    def __init__(
        self, deps: DependencyGraph, layout: Layout | None, sizes: Mapping[str, int]
    ) -> None:
        self.deps = deps
        self.layout = layout
        self.graph = deps.graph_module.graph
        self.groups = AxisGroups(deps.groups, deps.trace.labels)
        self.nodes = {node.name: node for node in self.graph.nodes}
        self.leaves = {str(node.target) for node in self.graph.nodes if node.op == "call_module"}
        self.sizes = sizes
        self.work: dict[str, list[Work]] = {}
        for work in deps.trace.work:
            self.work.setdefault(work.node, []).append(work)

    def rows(self, sizes: Mapping[str, int], macs: Mapping[str, int]) -> tuple[Layer, ...]:
        """The layers, for the sizes of the parameters and the work of the nodes after the plan."""
        before, after = self._counted(self.sizes), self._counted(sizes)
        work = self.deps.trace.dense_macs
        found = []
        for name, row in self._gathered({**before, **after}).items():
            layer = self._layer(name, row)
            found.append(
                replace(
                    layer,
                    parameters=_summed(row.parameters, before, after),
                    macs=_summed(row.nodes, work, macs),
                )
            )
        return self._with_dropped(found, before, work)

    def _counted(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Sizes of parameters by the first name that the graph knows of each."""
        tied = self.deps.trace.tied
        return {tied.get(name, name): size for name, size in sizes.items()}

    def _gathered(self, names: Iterable[str]) -> dict[str, _Row]:
        """The layers in the order of the graph, with their parameters and nodes with work."""
        rows: dict[str, _Row] = {}
        readers = readers_of(self.graph, names)
        reading: dict[str, list[str]] = {}
        for name, nodes in readers.items():
            for node in nodes:
                reading.setdefault(node.name, []).append(name)
        for node in self.graph.nodes:
            for name in reading.get(node.name, ()):
                self._row(rows, self._owner(name), node).parameters[name] = None
            if node.name in self.work:
                self._row(rows, module_path(node) or node.name, node).nodes[node.name] = None
        for name, nodes in readers.items():
            if not nodes and not self._is_dropped(name):
                self._row(rows, self._owner(name), None).parameters[name] = None
        return rows

    def _row(self, rows: dict[str, _Row], name: str, node: fx.Node | None) -> _Row:
        if name not in rows:
            rows[name] = _Row(self._kind(name, node), {}, {})
        return rows[name]

    def _kind(self, name: str, node: fx.Node | None) -> str:
        model = self.deps.model
        if name in self.deps.state or name in self.sizes:
            return "Parameter"
        if node is not None and name == node.name and not module_path(node):
            return operator_name(node, model)
        return class_name(model, name, node or next(iter(self.graph.nodes)))

    def _owner(self, parameter: str) -> str:
        """The layer that a parameter belongs to: a called module, or the one that holds it."""
        parts = parameter.split(".")
        prefixes = [".".join(parts[:count]) for count in range(1, len(parts))]
        called = next((prefix for prefix in prefixes if prefix in self.leaves), "")
        holder = prefixes[-1] if prefixes else parameter
        return called or holder.partition(".parametrizations.")[0]

    def _is_dropped(self, parameter: str) -> bool:
        return any(f"{parameter}.".startswith(f"{block}.") for block in self.deps.dropped)

    # -- one layer --------------------------------------------------------------------------

    def _layer(self, name: str, row: _Row) -> Layer:
        taken, given = self._axes(row)
        on = [self.groups.on(axis).groups for axis in (given, taken) if axis is not None]
        axes = [axis for each in row.parameters for axis in self.deps.trace.axes.get(each, ())]
        if not row.parameters:
            axes = [axis for tensor in self._values(row.nodes) for axis in tensor.axes]
        on += [self.groups.on(axis).groups for axis in axes]
        put_out = on[0] if given is not None else tuple(g for groups in on for g in groups)
        pins = [group.pinned for group in put_out]
        return Layer(
            name=name,
            kind=row.kind,
            width_in=self._change(taken),
            width_out=self._change(given),
            parameters=Change(0, 0),
            macs=Change(0, 0),
            groups=tuple(dict.fromkeys(group.name for groups in on for group in groups)),
            pinned=pins[0] if pins and None not in pins else None,
        )

    def _values(self, nodes: Iterable[str]) -> Iterator[TracedTensor]:
        for name in nodes:
            yield from traced_tensors(self.deps.trace.values.get(name))

    def _change(self, axis: Axis | None) -> Change | None:
        if axis is None:
            return None
        return Change(axis.size, axis.size if self.layout is None else self.layout.size(axis))

    def _axes(self, row: _Row) -> tuple[Axis | None, Axis | None]:
        """The axes of channels that a layer takes and returns.

        1. With products: what the first of them sums over, and what the last one puts out; of a
           module that the graph calls, what it returns.
        2. Without, as in a layer whose weights others read: those of its first parameter that is
           read, in the order of linear layers and convolutions, or else the one axis that can be
           pruned. Several of an unknown kind tell nothing.
        """
        works = [work for node in row.nodes for work in self.work[node]]
        if not row.parameters:
            works = [work for work in works if _has_weights(work)]
        if works:
            place = _channel_dim(works[-1])
            put_out = _axis(traced_tensors(works[-1].out)[0], place)
            value = next(self._values([works[-1].node]), None)
            returned = None if value is None else _axis(value, place)
            node = self.nodes[works[-1].node]
            is_same = returned is not None and put_out is not None and returned.size == put_out.size
            if node.op == "call_module" or is_same:  # the product alone may not know its channels
                put_out = returned
            return _axis(_operand(works[0]), _channel_dim(works[0])), put_out
        known = (self.deps.trace.axes.get(name) for name in row.parameters)
        axes: Sequence[Axis] = next((found for found in known if found), ())
        if len(axes) < 2:
            return (axes[0], axes[0]) if axes else (None, None)
        if row.kind == "Linear" or row.kind in _CONVOLUTION_KINDS:
            return axes[1], axes[0]
        free = [axis for axis in axes if any(g.prunable for g in self.groups.on(axis).groups)]
        return None, None if len(free) > 1 else (free or list(axes))[-1]

    # -- blocks that go -----------------------------------------------------------------------

    def _with_dropped(
        self, layers: list[Layer], sizes: Mapping[str, int], work: Counter[str]
    ) -> tuple[Layer, ...]:
        """The layers and the dropped blocks, each after what stands before it in the model."""
        drop = self.deps.drop
        if drop is None:
            return tuple(layers)
        order = {name: number for number, (name, _) in enumerate(drop.model.named_modules())}
        for name in drop.names:
            before = [k for k, each in enumerate(layers) if order.get(each.name, 0) < order[name]]
            layers.insert(max(before, default=-1) + 1, self._dropped(drop, name, sizes))
        rest = drop.macs - work.total() - sum(drop.macs_of.values())
        if rest:
            layers.append(Layer(_NO_LAYER, "", None, None, Change(0, 0), Change(rest, 0)))
        return tuple(layers)

    def _dropped(self, drop: Drop, name: str, sizes: Mapping[str, int]) -> Layer:
        gone = [n for n in sizes if f"{n}.".startswith(f"{name}.") and n not in self.deps.state]
        return Layer(
            name=name,
            kind=type(drop.model.get_submodule(name)).__name__,
            width_in=None,
            width_out=None,
            parameters=Change(sum(sizes[n] for n in gone), 0),
            macs=Change(drop.macs_of[name], 0),
            dropped=True,
        )


def _summed(names: Iterable[str], before: Mapping[str, int], after: Mapping[str, int]) -> Change:
    names = list(names)
    return Change(sum(before.get(n, 0) for n in names), sum(after.get(n, 0) for n in names))


def _has_weights(work: Work) -> bool:
    """Whether a product without parameters of its layer tells widths: not one of two batches."""
    packet = work.op._overloadpacket
    return packet not in _WITHOUT_WEIGHTS and "attention" not in str(packet)


def _operand(work: Work) -> TracedTensor:
    """What a product multiplies with weights."""
    return next(iter(traced_tensors(work.args[work.op._overloadpacket in _SECOND :])))


def _channel_dim(work: Work) -> int:
    """The dim of channels, counted from the end: of convolutions in front of the spatial dims."""
    if work.op._overloadpacket not in _CONVOLUTIONS:
        return -1
    return 1 - len(traced_tensors(work.out)[0].shape)


def _axis(tensor: TracedTensor, dim: int) -> Axis | None:
    return tensor.axes[dim] if len(tensor.axes) >= -dim else None
