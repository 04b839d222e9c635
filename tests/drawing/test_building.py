"""What a picture tells of a model and of a plan."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.cost import cost_of
from fxprune.drawing import Picture, PictureNode, picture_of
from models_zoo import ZOO
from tests.drawing.models import IMAGE, WORDS, Attention, analyzed, residual

SOME = (
    "attention_windows_shifted",
    "channel_shuffle",
    "dense_concat",
    "experts_batched",
    "qkv_fused_chunk",
    "recurrent_lstm",
    "shared_module_siamese",
    "tied_weights",
)
NAMES = [name for name in ZOO if name.startswith(SOME)]


def node(picture: Picture, name: str) -> PictureNode:
    return next(node for node in picture.nodes if node.name == name)


def test_a_convolution_its_norm_and_its_activation_are_one_node() -> None:
    drawn = node(picture_of(residual(6)), "blocks_0_conv1")
    assert drawn.operators == ("Conv2d", "BatchNorm2d", "relu")
    assert drawn.ops == ("blocks_0_conv1", "blocks_0_bn1", "relu")
    assert (drawn.kind, drawn.path, drawn.parent) == ("module", "blocks.0.conv1", "blocks.0")
    assert drawn.source.endswith("in forward")


def test_what_coupled_modules_put_out_has_one_colour_and_what_is_alone_has_none() -> None:
    picture = picture_of(residual(6, 6))
    stem = picture.groups["stem"]
    assert stem.colour == 0
    assert {"stem", "blocks_0_conv2", "add", "blocks_1_conv2", "add_1"} <= set(stem.nodes)
    assert picture.groups["blocks.0.conv1"].colour is None
    assert picture.groups["blocks.0.conv1"].nodes == ("blocks_0_conv1",)


def test_edges_tell_the_widths_before_and_after() -> None:
    deps = residual(6)
    picture = picture_of(deps, fxprune.plan(deps, IMAGE, ratio=0.5))
    edges = {(edge.source, edge.target): edge.values for edge in picture.edges}
    (value,) = edges["blocks_0_conv1", "blocks_0_conv2"]
    assert (value.widths_before, value.widths_after) == ((6,), (3,))
    assert value.groups == (("blocks.0.conv1",),)
    (image,) = edges["x", "stem"]
    assert (image.dims, image.widths_before) == ((), (2, 3, 8, 8))


def test_without_a_plan_nothing_changes() -> None:
    picture = picture_of(residual(6))
    assert not picture.pruned
    assert all(value.before == value.after for edge in picture.edges for value in edge.values)
    assert all(group.width == group.size for group in picture.groups.values())
    assert picture.parameters[0] == picture.parameters[1]


def test_a_pinned_node_tells_the_reason_and_the_node_that_pins_too() -> None:
    picture = picture_of(residual(6))
    head = node(picture, "head")
    assert head.pinned is not None
    assert head.pinned.what == "output of the model"
    assert "head" in node(picture, "output").pins
    assert picture.groups["head"].pinned_at == "output"
    assert node(picture, "stem").pinned is None


class Summed(nn.Module):
    """Channels that are pinned inside of a node and do not come out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.cumsum(self.first(x), 1))


def test_a_node_tells_of_channels_that_are_pinned_inside_of_it() -> None:
    picture = picture_of(analyzed(Summed()))
    first = node(picture, "first")
    assert first.ops == ("first", "cumsum")
    assert (first.group, first.pins) == ("first", ("first.weight", "first"))
    assert first.pinned is not None
    assert first.pinned.what == "cumsum runs along this axis"


def test_groups_inside_of_a_node_are_told_there() -> None:
    picture = picture_of(analyzed(Attention(), WORDS))
    kinds = {picture.groups[name].kind for name in node(picture, "attend").inner}
    assert kinds == {"heads", "head_dims"}
    assert node(picture, "attend").group == "embed"
    assert node(picture, "embed").inner == ()


@pytest.mark.parametrize("level", ["module", "op"])
@pytest.mark.parametrize("name", NAMES)
def test_the_nodes_together_cost_what_the_model_costs(name: str, level: str) -> None:
    entry = ZOO[name]
    inputs = entry.example_inputs()
    deps = fxprune.analyze(entry.build().eval(), inputs)
    plan = fxprune.plan(deps, inputs, ratio=0.4)
    picture = picture_of(deps, plan, level)  # type: ignore[arg-type]  # a parameter of the test
    before = cost_of(deps.graph_module, deps.trace, lambda tensor: tensor.shape)
    after = fxprune.shrink(deps, plan, inputs, verify=False).meta["fxprune"].after
    assert picture.parameters == (before.parameters, after.parameters)
    assert picture.macs == (before.macs, after.macs)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_no_cycles_and_every_node_is_reached_from_an_input(name: str) -> None:
    entry = ZOO[name]
    picture = picture_of(fxprune.analyze(entry.build().eval(), entry.example_inputs()))
    graph = nx.DiGraph()
    graph.add_edges_from((edge.source, edge.target) for edge in picture.edges)
    assert nx.is_directed_acyclic_graph(graph)
    inputs = [node.name for node in picture.nodes if node.kind == "input"]
    reached = set().union(*({name} | nx.descendants(graph, name) for name in inputs))
    assert reached == {node.name for node in picture.nodes}


def test_at_the_level_of_operators_each_is_a_node() -> None:
    deps = residual(6)
    picture = picture_of(deps, level="op")
    assert [node.name for node in picture.nodes] == [n.name for n in deps.graph_module.graph.nodes]
    assert node(picture, "blocks_0_bn1").operators == ("BatchNorm2d",)


class Sizes(nn.Module):
    """Sizes and position numbers beside the data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1]).unsqueeze(1)
        hidden = self.first(x).view(x.shape[0], x.shape[1], 6)
        return self.last(torch.where(places > 1, hidden, hidden.tanh()))


def test_sizes_and_numbers_of_positions_are_left_out() -> None:
    picture = picture_of(analyzed(Sizes(), torch.zeros(2, 3, 4)))
    shown = [(node.name, node.operators) for node in picture.nodes]
    assert shown == [
        ("x", ()),
        ("first", ("Linear", "tanh", "where")),
        ("last", ("Linear",)),
        ("output", ()),
    ]


class Decayed(nn.Module):
    """A long way from a weight to the product that it is for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        for _ in range(1200):
            weight = -weight
        return x @ weight


def test_what_is_left_out_can_be_long() -> None:
    picture = picture_of(analyzed(Decayed(), torch.zeros(2, 8)))
    assert [(node.name, node.parameters) for node in picture.nodes] == [
        ("x", 0),
        ("matmul", 24),
        ("output", 0),
    ]


class Functional(nn.Module):
    """Everything in one forward, with weights that are transposed first."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Parameter(torch.zeros(*s)) for s in ((6, 4), (2, 6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = (x @ self.first.t()).relu() + 1
        return hidden @ self.last.t()


def test_products_with_weights_are_nodes_that_own_them_even_in_one_forward() -> None:
    picture = picture_of(analyzed(Functional(), torch.zeros(3, 4)))
    shown = [(node.operators, node.parameters) for node in picture.nodes[1:-1]]
    assert shown == [(("matmul", "relu", "add"), 24), (("matmul",), 12)]


class Normed(nn.Module):
    """A norm that casts what it reads; the sum around it reads the cast value when exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float32) * x.pow(2).mean(-1, keepdim=True).rsqrt()


class Prenorm(nn.Module):
    """A linear layer in a residual block with a norm before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 6), Normed(), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return x + self.second(self.norm(x))


def test_a_cast_belongs_to_what_it_casts_and_is_not_named_there() -> None:
    program = torch.export.export(Prenorm().eval(), (torch.zeros(3, 4),))
    picture = picture_of(fxprune.analyze(program, torch.zeros(3, 4)))
    first = node(picture, picture.nodes[1].name)
    assert (first.path, first.operators) == ("first", ("Linear",))
    assert [n.operators for n in picture.nodes[2:-1]] == [("Normed",), ("Linear",), ("add",)]


def test_an_exported_program_still_tells_the_classes_of_its_modules() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    program = torch.export.export(model, (torch.zeros(3, 4),))
    picture = picture_of(fxprune.analyze(program, torch.zeros(3, 4)))
    shown = [(node.path, node.operators) for node in picture.nodes[1:-1]]
    assert shown == [("0", ("Linear", "ReLU")), ("2", ("Linear",))]


def test_a_branch_that_goes_is_marked() -> None:
    deps = residual(6)
    plan = fxprune.plan(deps, IMAGE, channels={"blocks.0.conv1": list(range(6))})
    picture = picture_of(deps, plan)
    gone = [node for node in picture.nodes if node.goes]
    assert [node.name for node in gone] == ["blocks_0_conv1", "blocks_0_conv2"]
    assert all(node.parameters_after == node.macs_after == 0 for node in gone)


def test_a_block_that_is_dropped_is_named() -> None:
    model = residual(6, 6).model
    plan = fxprune.plan(model, IMAGE, drop=["blocks.1"])
    picture = picture_of(plan.analyze(model, IMAGE), plan)
    assert picture.dropped == ("blocks.1",)
    assert not any(node.path.startswith("blocks.1") for node in picture.nodes)


def test_the_cost_before_is_that_with_the_blocks_that_are_dropped() -> None:
    model = residual(6, 6).model
    whole = picture_of(residual(6, 6))
    plan = fxprune.plan(model, IMAGE, drop=["blocks.1"])
    picture = picture_of(plan.analyze(model, IMAGE), plan)
    report = fxprune.shrink(model, plan).meta["fxprune"]
    assert picture.parameters == (whole.parameters[0], report.after.parameters)
    assert picture.macs == (whole.macs[0], report.after.macs)
    assert node(picture, "stem").share == node(whole, "stem").share


def test_a_plan_of_another_model_is_refused() -> None:
    deps = residual(6)
    with pytest.raises(fxprune.PlanError, match="another model"):
        picture_of(residual(4), fxprune.plan(deps, IMAGE, ratio=0.5))
