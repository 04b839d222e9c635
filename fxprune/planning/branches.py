"""Branches that go: what becomes of a graph where an axis loses all its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx

    from fxprune.planning.layout import Layout
    from fxprune.traces import TracedTensor

Kind: TypeAlias = Literal["live", "state", "gone", "constant", "number"]
"""What a node is when some axes are left without positions.

- gone: all tensors of its value have such an axis;
- constant: it reads what has gone, or sizes of it, and nothing else but constants and state, so
  that it does not depend on the inputs any more;
- number: it is no tensor, and is computed of sizes of what has gone or is constant;
- state: it is computed of parameters and buffers alone;
- live: anything else.
"""


def is_gone(tensor: TracedTensor, layout: Layout) -> bool:
    """Whether an axis of a tensor loses all its positions."""
    return any(axis.size and not layout.size(axis) for axis in tensor.axes)


def kinds_of(graph: fx.Graph, layout: Layout) -> dict[str, Kind]:
    """The kind of every node of a graph, by name."""
    kinds: dict[str, Kind] = {}
    for node in graph.nodes:
        kinds[node.name] = _kind(node, layout, kinds)
    return kinds


def _kind(node: fx.Node, layout: Layout, kinds: dict[str, Kind]) -> Kind:
    tensors = layout.tensors(node.name)
    if node.op in ("placeholder", "output"):
        return "live"
    if tensors and all(is_gone(tensor, layout) for tensor in tensors):
        return "gone"
    if node.op == "get_attr":
        return "state"
    read = {kinds[n.name] for n in node.all_input_nodes}
    if not read & {"gone", "constant", "number"}:
        return "state" if read == {"state"} else "live"
    data = {kinds[n.name] for n in node.all_input_nodes if layout.tensors(n.name)}
    if not tensors and layout.value(node.name) is not None:
        return "number"
    return "live" if "live" in data else "constant"


def state_of_numbers(graph: fx.Graph, layout: Layout) -> set[str]:
    """The first names of parameters and buffers that meet nothing but sizes of what has gone.

    What comes out is a constant in which no operator reads anything that has gone.
    """
    kinds = kinds_of(graph, layout)
    numeric: set[fx.Node] = set()
    for node in graph.nodes:
        read = operands(node, kinds, ("gone", "constant"))
        data = [n for n in read if layout.tensors(n.name)]
        if kinds[node.name] == "constant" and numeric.issuperset(data):
            numeric.add(node)
    needed: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        is_read = kinds[node.name] == "state" and not needed.isdisjoint(node.users)
        if node in numeric or is_read:
            needed.add(node)
    targets = tuple(f"{n.target}." for n in needed if n.op in ("call_module", "get_attr"))
    tied = layout.deps.trace.tied
    return {first for name, first in tied.items() if f"{name}.".startswith(targets)}


def why_not(graph: fx.Graph, layout: Layout) -> str:
    """Why what is left without positions cannot go; an empty text if nothing says so.

    1. What the model returns would be the same for all inputs.
    2. A mean, a maximum or the like of no positions is not defined.
    """
    kinds = kinds_of(graph, layout)
    for node in graph.nodes:
        lost = [n.name for n in node.all_input_nodes if kinds[n.name] not in ("live", "state")]
        if node.op == "output" and lost:
            return f"node {lost[0]}, which the model returns, would not depend on its inputs"
    for entry in layout.deps.trace.renormalized:
        name = entry.place.node.name
        is_empty = entry.axis.size and not layout.size(entry.axis)
        if kinds.get(name) == "constant" and is_empty:
            return f"node {name} looks across it, and would have nothing to look at"
    return ""


def operands(node: fx.Node, kinds: dict[str, Kind], wanted: Sequence[Kind]) -> list[fx.Node]:
    """The operands of a node that are of some kinds."""
    return [n for n in node.all_input_nodes if kinds[n.name] in wanted]
