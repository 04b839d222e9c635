"""Metadata after the passes: values of the new shapes, and where new nodes come from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.fx.passes.shape_prop import ShapeProp

import fxprune
from fxprune.passes import NoteValues, shrink_pipeline
from models_zoo import randomize

# torch 2.13 warns of its own specs.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
X = torch.randn(3, 3, 8, 8)


class Net(nn.Module):
    """Has a literal width, a size that is read, and a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        y = y.flip(1).view(y.shape[0], 8, -1).mean(2) * 8**-0.5
        return self.second(y)


def program() -> fx.GraphModule:
    """The graph of `torch.export`, with a symbolic batch."""
    dims = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(randomize(Net()).eval(), (X,), dynamic_shapes=dims)
    module = exported.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


def shapes(graph_module: fx.GraphModule) -> dict[str, Any]:
    values = {n.name: n.meta.get("val") for n in graph_module.graph.nodes if n.op != "output"}
    return {n: tuple(v.shape) for n, v in values.items() if isinstance(v, torch.Tensor)}


def shrunk(graph_module: fx.GraphModule) -> fx.GraphModule:
    deps = fxprune.analyze(graph_module, X)
    plan = fxprune.plan(deps, channels={"first": [1, 6]})
    return shrink_pipeline()(graph_module, plan.layout(deps)).graph_module


def test_values_are_fake_tensors_of_the_shapes_that_come_out() -> None:
    small = shrunk(program())
    noted = shapes(small)
    called = [node for node in small.graph.nodes if node.op == "call_function"]
    assert all("val" in node.meta for node in called)
    assert all(isinstance(n.meta["val"], (FakeTensor, torch.SymInt)) for n in called)
    ShapeProp(small).propagate(X)
    for node in small.graph.nodes:
        if node.name in noted and node.op == "call_function":
            assert [int(n) for n in noted[node.name][1:]] == list(
                node.meta["tensor_meta"].shape[1:]
            )
    assert noted["first_weight"] == (6, 3, 3, 3)


def test_a_symbolic_batch_stays_the_same_symbol_and_no_guard_is_added() -> None:
    module = program()
    (x,) = module.graph.find_nodes(op="placeholder")
    mode = x.meta["val"].fake_mode
    guards = len(mode.shape_env.guards)
    small = shrunk(module)
    conv = next(n for n in small.graph.nodes if "conv2d" in n.name)
    assert isinstance(conv.meta["val"].shape[0], torch.SymInt)
    assert str(conv.meta["val"].shape[0]) == str(x.meta["val"].shape[0])
    assert conv.meta["val"].fake_mode is mode
    assert len(mode.shape_env.guards) == guards


def test_the_values_of_the_original_stay_as_they_are() -> None:
    module = program()
    before = shapes(module)
    shrunk(module)
    assert shapes(module) == before


def test_a_graph_of_modules_gets_values_too() -> None:
    module = fx.symbolic_trace(randomize(Net()).eval())
    FakeTensorProp(module, FakeTensorMode(allow_non_fake_inputs=True)).propagate(X)
    assert shapes(shrunk(module))["norm"] == (3, 6, 8, 8)


def test_shapes_that_torch_noted_are_those_of_the_result() -> None:
    module = program()
    ShapeProp(module).propagate(X)
    small = shrunk(module)
    conv = next(n for n in small.graph.nodes if "conv2d" in n.name)
    assert conv.meta["tensor_meta"].shape[1] == 6


def test_nothing_is_noted_where_the_original_has_nothing() -> None:
    small = shrunk(fx.symbolic_trace(randomize(Net()).eval()))
    assert not [n for n in small.graph.nodes if {"val", "tensor_meta"} & n.meta.keys()]


def test_every_call_tells_its_source_line_and_module() -> None:
    module = program()
    old = {node.name: node for node in module.graph.nodes}
    new = [n for n in shrunk(module).graph.nodes if n.op == "call_function"]
    for node in new:
        if node.name in old:
            assert node.meta.get("stack_trace") == old[node.name].meta.get("stack_trace")
            assert node.meta.get("nn_module_stack") == old[node.name].meta.get("nn_module_stack")
        else:
            assert node.meta["stack_trace"], node.name


@torch.library.custom_op("fxprune_tests::without_fake", mutates_args=())
def without_fake(x: Tensor) -> Tensor:
    return x * 2


def test_what_cannot_be_propagated_has_no_value_rather_than_a_stale_one() -> None:
    module = program()
    deps = fxprune.analyze(module, X)
    layout = fxprune.plan(deps, channels={"first": [1, 6]}).layout(deps)
    small = shrink_pipeline()(module, layout).graph_module
    relu = next(node for node in small.graph.nodes if node.name == "relu")
    relu.target = torch.ops.fxprune_tests.without_fake.default
    for node in small.graph.nodes:
        node.meta.pop("val", None)
    assert not NoteValues().apply(small, layout)
    order = [node.name for node in small.graph.nodes if node.op == "call_function"]
    noted = [
        name for name in order if "val" in next(n for n in small.graph.nodes if n.name == name).meta
    ]
    assert noted == order[: order.index("relu")]


@pytest.mark.parametrize("name", ["first", "second"])
def test_weights_stay_parameters(name: str) -> None:
    small = shrunk(program())
    assert isinstance(small.get_parameter(f"{name}.weight"), nn.Parameter)
    assert not isinstance(small.get_parameter(f"{name}.weight"), FakeTensor)
