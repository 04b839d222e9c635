"""The walk over the new graph: what it checks, what it leaves alone, what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

import fxprune
from fxprune import RewriteError
from fxprune.passes import AlignAttributes, Pipeline, RepairShapes, SliceState
from models_zoo import ZOO, randomize
from tests.passes.models import (
    EXAMPLE,
    OTHER_SHAPES,
    Between,
    Operator,
    assert_computes_the_original,
    between,
    conv,
    laid_out,
    linear,
    zoo,
)


@fx.wrap
def wants_twelve(x: Tensor) -> Tensor:
    """A leaf of the graph that insists on the old width, and cannot be lowered: it is random."""
    if x.shape[1] != 12:
        raise ValueError("I want twelve channels")
    return torch.dropout(x * 2, 0.5, train=True)


@fx.wrap
def makes_twelve(x: Tensor) -> Tensor:
    """A leaf of the graph that always makes the old width, and cannot be lowered."""
    return torch.dropout(torch.cat([x, x], dim=1)[:, :12] * 2, 0.5, train=True)


def test_a_node_that_does_not_take_the_new_shapes_is_an_error_that_names_it() -> None:
    model = between(lambda m, x: wants_twelve(x), conv(12))
    plan = fxprune.plan(model, EXAMPLE, 0.5)
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, plan)
    error = caught.value
    assert "node wants_twelve does not take the pruned operands" in error.what
    assert "I want twelve channels" in error.what
    assert "test_repair_shapes.py" in str(error.where)
    assert "[(2, 6, 6, 6)]" in error.why
    assert "ignore the groups that reach it" in error.hint
    assert isinstance(error.__cause__, ValueError)


def test_a_node_of_the_wrong_shape_is_an_error_that_tells_both_shapes() -> None:
    model = between(lambda m, x: makes_twelve(x), conv(12))
    plan = fxprune.plan(model, EXAMPLE, 0.5)
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, plan)
    assert "node makes_twelve comes out as [(2, 12, 6, 6)]" in caught.value.what
    assert "instead of [(2, 6, 6, 6)]" in caught.value.what
    assert "test_repair_shapes.py" in str(caught.value.where)


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = between(lambda m, x: wants_twelve(x), conv(12))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RewriteError):
        fxprune.shrink(model, fxprune.plan(model, EXAMPLE, 0.5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_following_the_hint_of_the_error_helps() -> None:
    def operator(m: Between, x: Tensor) -> Tensor:
        return wants_twelve(x)

    model = between(operator, nn.Sequential(conv(12), nn.Conv2d(5, 3, 1)))
    plan = fxprune.plan(model, EXAMPLE, 0.5, ignore=["stem"])
    small = fxprune.shrink(model, plan)
    assert small.get_submodule("head.0").weight.shape[:2] == (3, 12)


def test_a_graph_that_fits_is_left_alone() -> None:
    deps, layout = zoo("residual")
    sliced = Pipeline((SliceState(), AlignAttributes()))(deps.graph_module, layout).graph_module
    result = RepairShapes()(sliced, layout)
    assert not result.modified
    assert result.graph_module.code == sliced.code


def test_a_graph_that_loses_nothing_is_left_alone() -> None:
    deps, layout = zoo("shape_arithmetic", ratio=0.0)
    result = RepairShapes()(deps.graph_module, layout)
    assert not result.modified
    assert result.graph_module.code == deps.graph_module.code


def test_tensors_are_not_touched() -> None:
    deps, layout = zoo("shape_arithmetic")
    sliced = SliceState()(deps.graph_module, layout).graph_module
    result = RepairShapes()(sliced, layout)
    assert result.modified
    before, after = sliced.state_dict(), result.graph_module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_model_without_data_is_repaired_too() -> None:
    model = between(lambda m, x: x.view(x.size(0), 12, -1).mean(2), linear(12)).to("meta")
    plan = fxprune.plan(model, EXAMPLE, 0.5, criterion="random")
    small = fxprune.shrink(model, plan, verify=False)
    assert small(EXAMPLE.to("meta")).shape == (2, 5)


@pytest.mark.parametrize(
    "name", ["channel_shuffle", "shape_arithmetic", "shape_arithmetic_fill", "unet"]
)
def test_the_zoo_runs_at_another_batch_and_resolution_after_shrinking(name: str) -> None:
    entry = ZOO[name]
    model = randomize(entry.build()).double().eval()
    (example,) = entry.example_inputs()
    plan = fxprune.plan(model, example.double(), 0.5)
    small = fxprune.shrink(model, plan, verify=False)
    x = torch.randn(3, 3, 24, 16).double()
    fxprune.verify(model, small, plan, x)
    with torch.no_grad():
        assert small(x).shape == model(x).shape


def test_the_shrunk_model_runs_under_autograd() -> None:
    model = between(lambda m, x: x.view(x.size(0), 12, -1).mean(2), linear(12))
    small = fxprune.shrink(model, fxprune.plan(model, EXAMPLE, 0.5))
    small.train()
    small(OTHER_SHAPES[0]).sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


EXACT: dict[str, Operator] = {
    "a mean": lambda m, x: x * x.mean(1, keepdim=True),
    "a mean of all": lambda m, x: x * x.mean(),
    "a mean of rows and channels as one": lambda m, x: x * x.flatten(1, 2).mean(1)[:, None, None],
    "a softmax": lambda m, x: x * x.softmax(1),
    "a mean beside one of space": lambda m, x: x.mean(1, True) * x.mean((2, 3), True),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_statistics_are_those_of_the_original_with_zeros(name: str) -> None:
    model = between(EXACT[name], conv(12))
    plan = fxprune.plan(model, EXAMPLE, 0.5)
    small = fxprune.shrink(model, plan, norm="exact")
    assert_computes_the_original(model, plan, small, [EXAMPLE, *OTHER_SHAPES])
    kept = fxprune.shrink(model, plan)
    with torch.no_grad():
        assert not torch.allclose(kept(EXAMPLE), small(EXAMPLE))


def test_the_walk_uses_the_attributes_that_were_aligned() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 2, 1))
    deps, layout = laid_out(model, torch.randn(1, 3, 5, 5))
    unaligned = SliceState()(deps.graph_module, layout).graph_module
    lowered = RepairShapes()(unaligned, layout)  # a module that does not fit is not kept
    assert "aten.conv2d" in lowered.graph_module.code
    aligned = AlignAttributes()(unaligned, layout).graph_module
    assert not RepairShapes()(aligned, layout).modified


@fx.wrap
def as_it_is(x: Tensor, share: float) -> Tensor:
    """What calls no operator, as stochastic depth in eval mode; the number could be a size."""
    return x if share < 1 else x * share


def test_a_function_that_calls_no_operator_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing in it that could use sizes, and recording takes long."""

    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(as_it_is(self.first(x), 0.5))
            return y

    model = Passing()
    deps = fxprune.analyze(model, torch.randn(2, 4))
    assert "as_it_is" in {node.name for node in deps.graph_module.graph.nodes}
    assert "as_it_is" not in deps.trace.active
    assert {"first", "last"} <= deps.trace.active
    monkeypatch.setattr("fxprune.lowering.Lowering.operators", None)
    small = fxprune.shrink(deps, fxprune.plan(deps, ratio=0.5))
    assert small.get_parameter("last.weight").shape == (2, 3)
