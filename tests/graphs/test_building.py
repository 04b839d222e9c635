"""`deps.to_networkx()`: what its nodes and edges tell."""

from __future__ import annotations

from collections import Counter

import networkx as nx
import pytest

import fxprune
from fxprune.cost import cost_of
from models_zoo import ZOO
from tests.drawing.models import WORDS, Attention, analyzed, residual


def zoo(name: str) -> fxprune.DependencyGraph:
    entry = ZOO[name]
    return fxprune.analyze(entry.build().eval(), entry.example_inputs())


def test_there_are_operators_parameters_and_groups() -> None:
    deps = residual(6)
    graph = deps.to_networkx()
    assert all(key[0] == data["type"] for key, data in graph.nodes(data=True))
    assert Counter(kind for kind, _ in graph) == {
        "op": len(deps.graph_module.graph.nodes),
        "parameter": len(deps.state),
        "group": len(deps.groups),
    }


def test_operators_tell_module_source_shape_and_work() -> None:
    deps = residual(6)
    graph = deps.to_networkx()
    conv = graph.nodes["op", "blocks_0_conv1"]
    assert (conv["op"], conv["target"], conv["module"]) == (
        "call_module",
        "blocks.0.conv1",
        "blocks.0.conv1",
    )
    assert (conv["shape"], conv["macs"]) == ("2x6x6x6", 2 * 36 * 6 * 8 * 9)
    assert conv["source"].endswith("in forward")
    total = cost_of(deps.graph_module, deps.trace, lambda tensor: tensor.shape).macs
    assert sum(data["macs"] for _, data in graph.nodes(data=True) if data["type"] == "op") == total


def test_parameters_and_buffers_lead_to_their_readers() -> None:
    graph = residual(6).to_networkx()
    weight, mean = (
        ("parameter", "blocks.0.conv1.weight"),
        ("parameter", "blocks.0.bn1.running_mean"),
    )
    assert graph.nodes[weight] == {
        "type": "parameter",
        "kind": "parameter",
        "shape": "6x8x3x3",
        "entries": 432,
    }
    assert graph.nodes[mean]["kind"] == "buffer"
    assert list(graph.successors(weight)) == [("op", "blocks_0_conv1")]
    assert graph.edges[weight, ("op", "blocks_0_conv1")]["type"] == "read"


def test_groups_tell_why_they_are_pinned_and_where() -> None:
    graph = residual(6).to_networkx()
    assert graph.nodes["group", "stem"] == {
        "type": "group",
        "kind": "channels",
        "size": 8,
        "prunable": True,
        "pinned": "",
        "pinned_by": "",
        "pinned_at": "",
        "pinned_source": "",
        "hint": "",
    }
    head = graph.nodes["group", "head"]
    assert (head["prunable"], head["pinned"], head["pinned_at"]) == (
        False,
        "output of the model",
        "output",
    )


def test_groups_lead_to_what_they_are_on() -> None:
    graph = residual(6).to_networkx()
    edge = graph.edges[("group", "stem"), ("parameter", "blocks.0.conv1.weight")]
    assert edge == {"type": "member", "dims": "1", "entries": 432}
    edge = graph.edges[("group", "stem"), ("op", "add")]
    assert edge == {"type": "carried", "dims": "1"}
    assert not graph.has_edge(("group", "stem"), ("op", "blocks_0_conv1"))


def test_a_group_on_two_axes_of_a_tensor_has_one_edge_with_both() -> None:
    edge = (
        zoo("shared_module")
        .to_networkx()
        .edges[("group", "stem.0"), ("parameter", "refine.weight")]
    )
    assert edge == {"type": "member", "dims": "0, 1", "entries": 1296}


@pytest.mark.parametrize("name", ["recurrent_lstm", "experts_batched", "tied_weights_bags"])
def test_the_entries_of_a_group_are_those_that_go_without_its_channels(name: str) -> None:
    deps = zoo(name)
    graph = deps.to_networkx()
    for group in (group for group in deps.groups if group.pinned is None):
        for member in group.members:
            edge = graph.edges[("group", group.name), ("parameter", member.parameter)]
            gone = deps.state[member.parameter].isnan()  # a mask of that shape, all False
            for other in group.members:
                if other.parameter == member.parameter:
                    gone.transpose(0, other.dim)[(other.channels >= 0).nonzero()[0]] = True
            assert edge["entries"] == int(gone.sum())


def test_data_flows_along_edges_without_cycles() -> None:
    graph = analyzed(Attention(), WORDS).to_networkx()
    data = [(a, b) for a, b, edge in graph.edges(data=True) if edge["type"] == "data"]
    assert (("op", "attend"), ("op", "getitem")) in data
    assert nx.is_directed_acyclic_graph(graph)


def test_attributes_are_plain_values() -> None:
    graph = zoo("attention_windows_shifted").to_networkx()
    values = [v for _, data in graph.nodes(data=True) for v in data.values()]
    values += [v for *_, data in graph.edges(data=True) for v in data.values()]
    assert {type(value) for value in values} <= {str, int, bool}
