"""Graphs of networkx as files."""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx

from fxprune.dot_text import attributes, quoted
from fxprune.errors import InputError, printable
from fxprune.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMATS = (".graphml", ".json", ".dot")


def write_graph(graph: nx.DiGraph, path: str | os.PathLike[str]) -> None:
    """Write a graph of `deps.to_networkx()` to a file, the same for the same graph.

    Args:
        graph: the graph.
        path: .graphml, .json (node-link, as `networkx.node_link_graph` reads it) or .dot. Nodes are
            named "op:conv1", "parameter:conv1.weight", "group:conv1" there.

    Raises:
        InputError: the suffix is another one.
        FxPruneError: the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in _FORMATS:
        raise InputError(
            f"{target} does not end with the kind of a graph's file",
            hint=f"take one of {', '.join(_FORMATS)}",
        )
    named = nx.relabel_nodes(graph, {key: ":".join(key) for key in graph})
    if suffix == ".graphml":
        data = _graphml(named)
    else:
        data = (_node_link(named) if suffix == ".json" else _dot(named)).encode()
    write_atomically(target, lambda stream: stream.write(data))


def _graphml(graph: nx.DiGraph) -> bytes:
    clean = nx.DiGraph()
    for name, values in graph.nodes(data=True):
        clean.add_node(printable(name), **{k: _printable(v) for k, v in values.items()})
    for source, target, values in graph.edges(data=True):
        clean.add_edge(printable(source), printable(target), **values)
    stream = BytesIO()
    nx.write_graphml_xml(clean, stream)
    return stream.getvalue()


def _printable(value: Any) -> Any:
    """XML has no control characters."""
    return printable(value) if isinstance(value, str) else value


def _node_link(graph: nx.DiGraph) -> str:
    document = {
        "directed": True,
        "multigraph": False,
        "graph": {},
        "nodes": [{**values, "id": name} for name, values in graph.nodes(data=True)],
        "edges": [{**values, "source": a, "target": b} for a, b, values in graph.edges(data=True)],
    }
    return json.dumps(document, indent=1) + "\n"


def _dot(graph: nx.DiGraph) -> str:
    lines = [
        *(f"  {quoted(name)}{_drawable(values)};" for name, values in graph.nodes(data=True)),
        *(
            f"  {quoted(source)} -> {quoted(target)}{attributes(values)};"
            for source, target, values in graph.edges(data=True)
        ),
    ]
    return "\n".join(["digraph dependencies {", *lines, "}"]) + "\n"


def _drawable(values: Mapping[str, Any]) -> str:
    """Graphviz has a meaning of its own for `shape`."""
    return attributes({"tensor" if k == "shape" else k: v for k, v in values.items()})
