"""Which nodes of a graph read which tensors of its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import fx


def readers_of(graph: fx.Graph, names: Iterable[str]) -> dict[str, tuple[fx.Node, ...]]:
    """For each tensor by name the nodes that mention it, or call a module that holds it."""
    mentions: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            mentions.setdefault(str(node.target), []).append(node)
    found = {}
    for name in names:
        parts = name.split(".")
        prefixes = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
        found[name] = tuple(node for prefix in prefixes for node in mentions.get(prefix, ()))
    return found
