"""Graphs as files, read back by networkx."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

import fxprune
from fxprune.graphs import write_graph
from tests.drawing.models import residual


@pytest.fixture(scope="module")
def graph() -> nx.DiGraph:
    return residual(6).to_networkx()


def named(graph: nx.DiGraph) -> nx.DiGraph:
    return nx.relabel_nodes(graph, {key: ":".join(key) for key in graph})


def content(graph: nx.DiGraph) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Nodes and edges with what is not empty: networkx 3.2 reads no empty texts in GraphML."""

    def filled(data: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in data.items() if value != ""}

    nodes = {name: filled(data) for name, data in graph.nodes(data=True)}
    return nodes, {(a, b): filled(data) for a, b, data in graph.edges(data=True)}


def test_graphml_is_read_back_as_it_was(graph: nx.DiGraph, tmp_path: Path) -> None:
    write_graph(graph, tmp_path / "deps.graphml")
    found = nx.read_graphml(tmp_path / "deps.graphml")
    for *_, data in found.edges(data=True):
        data.pop("id", None)
    assert content(found) == content(named(graph))


def test_node_link_json_is_read_back_as_it_was(graph: nx.DiGraph, tmp_path: Path) -> None:
    write_graph(graph, str(tmp_path / "deps.json"))
    document = json.loads((tmp_path / "deps.json").read_text(encoding="utf-8"))
    try:
        found = nx.node_link_graph(document, edges="edges")
    except TypeError:  # networkx before 3.4
        found = nx.node_link_graph(document, link="edges")
    assert content(found) == content(named(graph))


def test_dot_has_every_node_and_edge(graph: nx.DiGraph, tmp_path: Path) -> None:
    write_graph(graph, tmp_path / "deps.dot")
    text = (tmp_path / "deps.dot").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) == len(graph) + graph.number_of_edges() + 2
    assert (
        '  "group:stem" -> "parameter:stem.weight" [type="member", dims="0", entries=216];' in lines
    )
    assert not re.search(r"\bshape=", text)  # it would be the shape of a box


def test_dot_is_read_by_graphviz(graph: nx.DiGraph, tmp_path: Path) -> None:
    folder = sysconfig.get_path("scripts")
    program = shutil.which("dot") or shutil.which("graphviz-pure", path=folder)
    program = program or shutil.which("graphviz-pure")
    if program is None:
        pytest.skip("neither dot nor graphviz-pure")
    write_graph(graph, tmp_path / "deps.dot")
    done = subprocess.run(
        [program, "-Tsvg", tmp_path / "deps.dot"], capture_output=True, check=True
    )
    assert done.stdout.count(b'class="node"') == len(graph)


def test_the_same_graph_gives_the_same_files(tmp_path: Path) -> None:
    for suffix in ("graphml", "json", "dot"):
        for name in ("one", "two"):
            write_graph(residual(6, 4).to_networkx(), tmp_path / f"{name}.{suffix}")
        one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two


def test_control_characters_do_not_break_graphml(tmp_path: Path) -> None:
    graph = nx.DiGraph()
    graph.add_node(("op", "a\x1b"), type="op", module="b\x00<")
    write_graph(graph, tmp_path / "odd.graphml")
    found = nx.read_graphml(tmp_path / "odd.graphml")
    assert dict(found.nodes(data=True)) == {"op:a\\x1b": {"type": "op", "module": "b\\x00<"}}


def test_another_suffix_is_refused(graph: nx.DiGraph, tmp_path: Path) -> None:
    with pytest.raises(fxprune.InputError, match=r"take one of \.graphml, \.json, \.dot"):
        write_graph(graph, tmp_path / "deps.gml")
    assert list(tmp_path.iterdir()) == []
