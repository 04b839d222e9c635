"""Places: which node, module and source line a label event is blamed on."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from fxprune.errors import Diagnostic, Location
from fxprune.rules import Place, as_diagnostic, locate
from fxprune.rules.place import module_path, source_line

USER = '  File "/home/me/project/net.py", line 12, in forward\n    x = self.conv(x)\n'
TORCH = '  File "/site-packages/torch/nn/modules/conv.py", line 5, in forward\n    return y\n'
STRING = '  File "<eval_with_key>.3", line 5, in forward\n    return y\n'


@pytest.fixture
def node() -> fx.Node:
    graph = fx.Graph()
    return graph.call_function(torch.relu, (graph.placeholder("x"),))


@pytest.mark.parametrize(
    ("trace", "line"),
    [
        (USER, "project/net.py:12 in forward"),
        (USER + TORCH, "project/net.py:12 in forward"),
        (USER.replace("/", "\\"), "project/net.py:12 in forward"),
        (USER.replace("project/net.py", "ipykernel_4711/815.py"), "notebook cell:12 in forward"),
        (TORCH, ""),
        (STRING, ""),
        (None, ""),
    ],
)
def test_the_source_line_is_the_last_one_of_the_user(
    node: fx.Node, trace: str | None, line: str
) -> None:
    node.stack_trace = trace
    assert source_line(node) == line


def test_the_module_of_a_node_is_the_innermost_one(node: fx.Node) -> None:
    assert module_path(node) == ""
    node.meta["nn_module_stack"] = {"a": ("layer1", object), "b": ("layer1.0", object)}
    assert module_path(node) == "layer1.0"


def test_the_module_of_a_module_call_is_its_target() -> None:
    graph = fx.Graph()
    call = graph.create_node("call_module", "layer1.conv", (graph.placeholder("x"),))
    assert module_path(call) == "layer1.conv"


def test_a_location_names_node_module_operator_and_line(node: fx.Node) -> None:
    node.stack_trace = USER
    node.meta["nn_module_stack"] = {"a": ("layer1", object)}
    op = torch.ops.aten.relu.default
    assert locate(node, op) == Location(
        "relu", "layer1", "project/net.py:12 in forward", "aten.relu.default"
    )


def test_a_place_gets_a_reason_without_being_changed(node: fx.Node) -> None:
    place = Place(node)
    reason = place.because("softmax", "use another axis")
    assert reason.diagnostic() == Diagnostic("softmax", locate(node), "use another axis")
    assert place == Place(node)


def test_any_reason_becomes_a_diagnostic(node: fx.Node) -> None:
    diagnostic = Diagnostic("because")
    assert as_diagnostic(diagnostic) is diagnostic
    assert as_diagnostic("because") == diagnostic
    assert as_diagnostic(Place(node, None, "because")) == Diagnostic("because", locate(node))
