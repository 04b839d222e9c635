"""Finishing touches to the graph that a node was recorded as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from fxprune.size_decisions import SizeOf, Source, Term, sizes_in

if TYPE_CHECKING:
    from collections.abc import Sequence

aten = torch.ops.aten
_FACTORIES = {
    aten.zeros.default: aten.new_zeros.default,
    aten.ones.default: aten.new_ones.default,
    aten.full.default: aten.new_full.default,
    aten.empty.memory_format: aten.new_empty.default,
}
"""What makes a tensor of a fixed type on a fixed device, and what makes one like another."""


def make_alike(graph: fx.Graph, operands: int) -> None:
    """Let new tensors take type and device from an operand, so that the model can be moved."""
    sources = [n for n in list(graph.nodes)[:operands] if n.meta["val"].is_floating_point()]
    for node in list(graph.nodes):
        if node.target not in _FACTORIES or not sources:
            continue
        like, made = sources[0].meta["val"], node.meta["val"]
        if (like.dtype, like.device) == (made.dtype, made.device):
            node.target = _FACTORIES[node.target]
            node.args = (sources[0], *node.args)
            node.kwargs = {}


def assert_decisions(graph: fx.Graph, decisions: Sequence[Source], name: str) -> None:
    """Assert comparisons of sizes, each as soon as the sizes are known."""
    nodes = list(graph.nodes)
    order = {node.name: k for k, node in enumerate(nodes)}
    last_input = max(k for k, node in enumerate(nodes) if node.op == "placeholder")

    def written(source: Source) -> Any:
        if isinstance(source, SizeOf):
            return graph.call_function(aten.sym_size.int, (nodes[order[source.node]], source.dim))
        if isinstance(source, Term):
            return graph.call_function(source.function, (*map(written, source.operands),))
        return source

    for decision in decisions:
        last = max(order[size.node] for size in sizes_in(decision))
        with graph.inserting_before(nodes[max(last, last_input) + 1]):
            message = f"{name} was recorded for inputs with {decision}"
            graph.call_function(torch._assert, (written(decision), message))


def add_numbers(graph: fx.Graph, values: dict[str, Any]) -> None:
    """Work out the values of the nodes that compute sizes."""
    for node in graph.nodes:
        if node.name not in values and node.op == "call_function":
            args = fx.map_arg(node.args, lambda n: values[n.name])
            if node.target is aten.sym_size.int:
                values[node.name] = args[0].shape[args[1]]
            elif node.target is torch._assert:
                values[node.name] = None
            else:
                values[node.name] = node.target(*args)
