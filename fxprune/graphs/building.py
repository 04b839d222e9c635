"""From an analysis to a graph of networkx."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np
from torch import nn

from fxprune.axis_groups import AxisGroups
from fxprune.pin_places import meeting_place
from fxprune.rules import Place, locate
from fxprune.rules.place import source_line, target_name
from fxprune.state_readers import readers_of
from fxprune.traces import traced_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group


def graph_of(deps: DependencyGraph) -> nx.DiGraph:
    """See `DependencyGraph.to_networkx`."""
    graph = nx.DiGraph()
    macs = deps.trace.dense_macs
    for node in deps.graph_module.graph.nodes:
        graph.add_node(("op", node.name), **_op(deps, node), macs=macs[node.name])
        for source in node.all_input_nodes:
            graph.add_edge(("op", source.name), ("op", node.name), type="data")
    _add_parameters(graph, deps)
    for group in deps.groups:
        _add_group(graph, group, meeting_place(deps.trace.labels, group))
    _add_carriers(graph, deps)
    return graph


def _op(deps: DependencyGraph, node: fx.Node) -> dict[str, str]:
    place = locate(node)
    shapes = [_shape(t.shape) for t in traced_tensors(deps.trace.values.get(node.name))]
    return {
        "type": "op",
        "op": node.op,
        "target": target_name(node.target),
        "module": place.module,
        "source": place.source,
        "shape": ", ".join(shapes),
    }


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def _add_parameters(graph: nx.DiGraph, deps: DependencyGraph) -> None:
    """All tensors of the state, and the operators that read them."""
    for name, tensor in deps.state.items():
        graph.add_node(
            ("parameter", name),
            type="parameter",
            kind="parameter" if isinstance(tensor, nn.Parameter) else "buffer",
            shape=_shape(tensor.shape),
            entries=tensor.numel(),
        )
    for name, nodes in readers_of(deps.graph_module.graph, deps.state).items():
        for node in nodes:
            graph.add_edge(("parameter", name), ("op", node.name), type="read")


def _add_group(graph: nx.DiGraph, group: Group, met: Place | None) -> None:
    """A group, and the tensors that it is on."""
    pin = group.pinned
    graph.add_node(
        ("group", group.name),
        type="group",
        kind=group.kind,
        size=group.size,
        prunable=group.prunable,
        pinned=pin.what if pin is not None else "",
        pinned_by=pin.where.node if pin is not None else "",
        pinned_at=met.node.name if met is not None else "",
        pinned_source=source_line(met.node) if met is not None else "",
        hint=pin.hint if pin is not None else "",
    )
    positions: dict[str, dict[int, int]] = {}
    lengths: dict[str, dict[int, int]] = {}
    for member in group.members:
        count = int(np.count_nonzero(member.channels >= 0))
        positions.setdefault(member.parameter, {})[member.dim] = count
        lengths.setdefault(member.parameter, {})[member.dim] = len(member.channels)
    for name, counts in positions.items():
        on_dims = lengths[name]
        others = prod(on_dims[dim] - count for dim, count in counts.items())
        rest = graph.nodes["parameter", name]["entries"] // max(1, prod(on_dims.values()))
        graph.add_edge(
            ("group", group.name),
            ("parameter", name),
            type="member",
            dims=", ".join(map(str, counts)),
            entries=(prod(on_dims.values()) - others) * rest,
        )


def _add_carriers(graph: nx.DiGraph, deps: DependencyGraph) -> None:
    """Edges from groups to the operators whose values carry them."""
    groups = AxisGroups(deps.groups, deps.trace.labels)
    for node in deps.graph_module.graph.nodes:
        dims: dict[str, dict[int, None]] = {}
        for tensor in traced_tensors(deps.trace.values.get(node.name)):
            for dim, axis in enumerate(tensor.axes):
                for group in groups.on(axis).groups:
                    dims.setdefault(group.name, {})[dim] = None
        for name, found in dims.items():
            listed = ", ".join(map(str, found))
            graph.add_edge(("group", name), ("op", node.name), type="carried", dims=listed)
