"""A plan removes the same of another graph of its model, or is refused."""

import pytest
import torch
from torch import Tensor, fx, nn

import fxprune
from fxprune.planning.transferring import transferred
from models_zoo import ZOO, randomize
from tests.planning.models import chain

X = torch.zeros(2, 8)


def exported(model: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    module = torch.export.export(model, inputs, strict=False).module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


@pytest.mark.parametrize("name", ["grouped_conv", "qkv_fused", "tied_weights"])
def test_a_plan_removes_the_same_positions_in_the_graph_of_aten(name: str) -> None:
    entry = ZOO[name]
    model, inputs = randomize(entry.build()).eval(), entry.example_inputs()
    plan = fxprune.plan(model, inputs, 0.5)
    deps = fxprune.analyze(exported(model, inputs), inputs)
    made = transferred(plan, deps)
    assert {n: s for n, s in made.slices.items() if n in plan.shapes} == plan.slices
    assert plan.slices
    assert made.layout(deps).slices == made.slices


def test_heads_and_what_is_inside_them_are_told_apart() -> None:
    entry = ZOO["qkv_separate"]
    model, inputs = randomize(entry.build()).eval(), entry.example_inputs()
    plan = fxprune.plan(model, inputs, 0.5, heads=True, head_dims=True)
    deps = fxprune.analyze(exported(model, inputs), inputs)
    kinds = {g.kind for g in transferred(plan, deps).groups.values() if g.removed}
    assert {"heads", "head_dims"} <= kinds


def test_the_plan_itself_comes_back_for_its_own_graph() -> None:
    deps = fxprune.analyze(chain(8, 6, 4), X)
    plan = fxprune.plan(deps, ratio=0.5)
    assert transferred(plan, deps) is plan


def test_a_graph_that_couples_more_is_refused() -> None:
    model = chain(8, 6, 6, 4)

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, child in model.named_children():
                self.add_module(name, child)

        def forward(self, x: Tensor) -> Tensor:
            first = self.get_submodule("0")(x)
            return self.get_submodule("2")(first + self.get_submodule("1")(first))

    plan = fxprune.plan(model, X, channels={"0": [1]})
    with pytest.raises(fxprune.PlanError, match=r"(?s)\[1\] of 0.weight.*cannot go alone"):
        transferred(plan, fxprune.analyze(Added(), X))


def test_a_graph_that_pins_channels_is_refused_with_the_reason() -> None:
    model = chain(8, 6, 4)
    plan = fxprune.plan(model, X, 0.5)
    graph = fx.Graph()
    x = graph.placeholder("x")
    hidden = graph.call_module("0", (x,))
    graph.output((hidden, graph.call_module("1", (hidden,))))
    deps = fxprune.analyze(fx.GraphModule(model, graph), X)
    with pytest.raises(fxprune.PlanError, match=r"(?s)0\.weight.*output of the model"):
        transferred(plan, deps)


def test_another_model_is_refused() -> None:
    plan = fxprune.plan(chain(8, 6, 4), X, 0.5)
    with pytest.raises(fxprune.PlanError, match=r"0\.weight has shape \[10, 8\], in the plan"):
        transferred(plan, fxprune.analyze(chain(8, 10, 4), X))
    with pytest.raises(fxprune.PlanError, match=r"the graph has no 0\.weight, 0\.bias, 1\.weight"):
        transferred(plan, fxprune.analyze(nn.Sequential(), X))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Linear(8, 6), Block()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).relu()


def test_dropped_blocks_are_refused() -> None:
    model = randomize(Residual()).eval()
    plan = fxprune.plan(model, X, drop=["block"])
    deps = fxprune.analyze(exported(model, (X,)), X)
    with pytest.raises(fxprune.PlanError, match="drops block, which a graph cannot do"):
        transferred(plan, deps)
