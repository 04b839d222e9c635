"""The pass protocol: the input stays as it is; a pipeline is a pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx, nn

from fxprune import RewriteError
from fxprune.passes import (
    AlignAttributes,
    DropBranches,
    NoteValues,
    Pass,
    Pipeline,
    RepairShapes,
    SliceState,
    shrink_pipeline,
)
from fxprune.planning import Layout
from tests.passes.models import zoo

MODELS = [
    "residual",
    "index_channels",
    "grouped_conv_multiplier",
    "csp_split_uneven",
    "shape_arithmetic",
    "shape_arithmetic_literal",
    "group_norm_layer",
]
STEPS = (SliceState(), DropBranches(), AlignAttributes(), RepairShapes(), NoteValues())


@dataclass(frozen=True)
class Rename(Pass):
    """Renames a node that does not need it."""

    old: str
    new: str

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        found = [node for node in graph_module.graph.nodes if node.name == self.old]
        for node in found:
            node.name = self.new
        return bool(found)


@dataclass(frozen=True)
class Break(Pass):
    """Makes a graph that calls a module which is not there."""

    def apply(self, graph_module: fx.GraphModule, layout: Layout) -> bool:
        next(n for n in graph_module.graph.nodes if n.op == "call_module").target = "nowhere"
        return True


def plain_attributes(root: nn.Module) -> dict[str, Any]:
    return {
        name: {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, (bool, int, float, str, tuple))
        }
        for name, module in root.named_modules()
    }


def fingerprint(graph_module: fx.GraphModule) -> dict[str, Any]:
    """All that a pass could change: code, nodes and their metadata, attributes, objects, values."""
    state = graph_module.state_dict(keep_vars=True)
    return {
        "code": graph_module.code,
        "nodes": [
            (n.name, n.op, str(n.target), str(n.args), str(n.kwargs), sorted(n.meta))
            for n in graph_module.graph.nodes
        ],
        "attributes": plain_attributes(graph_module),
        "modules": {name: id(module) for name, module in graph_module.named_modules()},
        "tensors": {name: (id(value), value._version) for name, value in state.items()},
        "values": {name: value.detach().numpy().tobytes() for name, value in state.items()},
    }


def results(graph_module: fx.GraphModule) -> dict[str, Any]:
    """The parts of a fingerprint that two equal graph modules share."""
    mine = fingerprint(graph_module)
    return {key: mine[key] for key in ("code", "nodes", "attributes", "values")}


def one_by_one(
    graph_module: fx.GraphModule, layout: Layout
) -> Iterator[tuple[Pass, fx.GraphModule]]:
    """Each pass with the input that it gets from the one before."""
    for step in STEPS:
        yield step, graph_module
        graph_module = step(graph_module, layout).graph_module


@pytest.mark.parametrize("name", MODELS)
def test_a_pass_leaves_its_input_as_it_is(name: str) -> None:
    deps, layout = zoo(name)
    for step, given in one_by_one(deps.graph_module, layout):
        before = fingerprint(given)
        result = step(given, layout)
        assert fingerprint(given) == before, step.name
        assert result.graph_module is not given


@pytest.mark.parametrize("name", MODELS)
def test_the_pipeline_leaves_its_input_as_it_is(name: str) -> None:
    deps, layout = zoo(name)
    before = fingerprint(deps.graph_module)
    shrink_pipeline()(deps.graph_module, layout)
    assert fingerprint(deps.graph_module) == before


@pytest.mark.parametrize("name", MODELS)
def test_a_result_shares_no_module_with_its_input(name: str) -> None:
    deps, layout = zoo(name)
    for step, given in one_by_one(deps.graph_module, layout):
        result = step(given, layout).graph_module
        mine = {id(module) for module in given.modules()}
        assert not any(id(module) in mine for module in result.modules()), step.name


@pytest.mark.parametrize("name", MODELS)
def test_a_pipeline_does_what_its_passes_do_one_by_one(name: str) -> None:
    deps, layout = zoo(name)
    stepped = deps.graph_module
    for step in STEPS:
        stepped = step(stepped, layout).graph_module
    assert results(Pipeline(STEPS)(deps.graph_module, layout).graph_module) == results(stepped)


def test_a_pipeline_is_a_pass_and_can_be_a_step_of_another() -> None:
    deps, layout = zoo("residual")
    nested = Pipeline((Pipeline((SliceState(),)), Pipeline((AlignAttributes(), RepairShapes()))))
    assert isinstance(nested, Pass)
    flat = shrink_pipeline()(deps.graph_module, layout)
    assert results(nested(deps.graph_module, layout).graph_module) == results(flat.graph_module)


def test_a_pipeline_of_own_passes_applies_them_in_order() -> None:
    deps, layout = zoo("classic_cnn")
    twice = Pipeline((Rename("relu", "first"), Rename("first", "second")))
    result = twice(deps.graph_module, layout)
    names = [node.name for node in result.graph_module.graph.nodes]
    assert result.modified
    assert "second" in names
    assert not {"relu", "first"} & set(names)


def test_an_empty_pipeline_returns_a_copy_and_says_that_nothing_changed() -> None:
    deps, layout = zoo("classic_cnn")
    result = Pipeline(())(deps.graph_module, layout)
    assert not result.modified
    assert result.graph_module is not deps.graph_module
    assert results(result.graph_module) == results(deps.graph_module)


def test_a_pass_that_finds_nothing_says_that_nothing_changed() -> None:
    deps, layout = zoo("residual", ratio=0.0)
    for step in (*STEPS[1:], Rename("nobody", "somebody")):
        result = step(deps.graph_module, layout)
        assert not result.modified, step.name
        assert result.graph_module.code == deps.graph_module.code


def test_a_pass_is_called_by_its_class_name() -> None:
    names = ["SliceState", "DropBranches", "AlignAttributes", "RepairShapes", "NoteValues"]
    assert [step.name for step in STEPS] == names


def test_passes_with_the_same_options_are_equal_and_cannot_be_changed() -> None:
    assert shrink_pipeline() == Pipeline(STEPS)
    with pytest.raises(AttributeError):
        Rename("a", "b").old = "c"  # type: ignore[misc]  # that is the test


def test_a_pass_that_makes_a_malformed_graph_is_named() -> None:
    deps, layout = zoo("classic_cnn")
    with pytest.raises(RewriteError, match="Break made a malformed graph"):
        Break()(deps.graph_module, layout)


def test_a_step_of_a_pipeline_that_makes_a_malformed_graph_is_named() -> None:
    deps, layout = zoo("classic_cnn")
    with pytest.raises(RewriteError, match="Break made a malformed graph"):
        Pipeline((Rename("relu", "first"), Break()))(deps.graph_module, layout)


def test_a_malformed_input_is_blamed_on_nobody_but_the_input() -> None:
    deps, layout = zoo("classic_cnn")
    broken = Break().copy(deps.graph_module, layout)
    Break().apply(broken, layout)
    with pytest.raises(RewriteError, match="Rename got a malformed graph"):
        Rename("a", "b")(broken, layout)


@pytest.mark.parametrize("name", MODELS)
def test_node_names_survive(name: str) -> None:
    deps, layout = zoo(name)
    result = shrink_pipeline()(deps.graph_module, layout).graph_module
    after = {node.name for node in result.graph.nodes}
    gone = [node for node in deps.graph_module.graph.nodes if node.name not in after]
    # Only nodes that read sizes may go, when the original's number takes their place.
    assert [node for node in gone if layout.tensors(node.name)] == []


def test_stack_traces_and_module_stacks_of_nodes_survive() -> None:
    deps, layout = zoo("shape_arithmetic_literal")
    result = shrink_pipeline()(deps.graph_module, layout).graph_module
    before = {node.name: node for node in deps.graph_module.graph.nodes}
    known = [node for node in result.graph.nodes if node.name in before]
    assert any(node.stack_trace for node in known)
    assert any(node.meta.get("nn_module_stack") for node in known)
    for node in known:
        assert node.stack_trace == before[node.name].stack_trace
        stack = before[node.name].meta.get("nn_module_stack")
        assert node.meta.get("nn_module_stack") == stack


def test_shapes_noted_in_the_metadata_do_not_outlive_a_rewrite() -> None:
    deps, layout = zoo("classic_cnn")
    for node in deps.graph_module.graph.nodes:
        node.meta["val"] = torch.zeros(1)
        node.meta["note"] = "mine"
    result = shrink_pipeline()(deps.graph_module, layout).graph_module
    assert all("val" not in node.meta for node in result.graph.nodes)
    assert all(node.meta["note"] == "mine" for node in result.graph.nodes)


def test_train_flags_survive_also_on_containers() -> None:
    deps, layout = zoo("residual")
    graph_module = deps.graph_module.train()
    graph_module.get_submodule("1.body").training = False
    graph_module.get_submodule("3.body.2").eval()
    result = shrink_pipeline()(graph_module, layout).graph_module
    flags = {name: module.training for name, module in graph_module.named_modules()}
    assert {name: module.training for name, module in result.named_modules()} == flags


def test_notes_on_the_graph_module_survive_in_a_copy_of_their_own() -> None:
    deps, layout = zoo("classic_cnn")
    deps.graph_module.meta["origin"] = "the zoo"
    result = shrink_pipeline()(deps.graph_module, layout).graph_module
    assert result.meta["origin"] == "the zoo"
    result.meta["more"] = True
    assert "more" not in deps.graph_module.meta


def test_the_result_is_called_like_the_model() -> None:
    deps, layout = zoo("classic_cnn")
    assert type(shrink_pipeline()(deps.graph_module, layout).graph_module).__name__ == "ClassicCnn"


def test_a_pass_that_makes_its_own_copy_has_to_be_the_first_of_a_pipeline() -> None:
    with pytest.raises(RewriteError, match="SliceState makes its own copy"):
        Pipeline((AlignAttributes(), SliceState()))
