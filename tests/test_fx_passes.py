"""fxprune's passes run in torch's PassManager, before and after those of others."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.dialect.common.cse_pass import CSEPass
from torch.fx.passes.infra.pass_base import PassResult
from torch.fx.passes.infra.pass_manager import PassManager, this_before_that_pass_constraint
from torch.fx.passes.shape_prop import ShapeProp

import fxprune
from fxprune.fx_passes import shrink_pass, torch_pass
from fxprune.passes import shrink_pipeline
from models_zoo import randomize

X = torch.randn(2, 3, 8, 8)


class Net(nn.Module):
    """Computes the same twice, so that common subexpressions can be found."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 6, 3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu() + self.norm(self.first(x)).relu()
        return self.head(self.second(y).mean((2, 3)))


MODEL = randomize(Net()).eval()
PLAN = fxprune.plan(MODEL, X, 0.5)


def traced() -> fx.GraphModule:
    return fx.symbolic_trace(MODEL)


def exported() -> fx.GraphModule:
    module = torch.export.export(MODEL, (X,), strict=False).module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    return module


def without_dead_code(graph_module: fx.GraphModule) -> PassResult:
    """Somebody's pass that is a function."""
    modified = graph_module.graph.eliminate_dead_code()
    return PassResult(graph_module, modified)


def with_shapes(graph_module: fx.GraphModule) -> PassResult:
    ShapeProp(graph_module).propagate(X)
    return PassResult(graph_module, True)


def called(graph_module: nn.Module) -> Tensor:
    """The output, of which CSEPass forgets that it is no tuple."""
    out = graph_module(X)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("make", [traced, exported])
def test_the_pass_composes_with_passes_before_and_after_it(make: type) -> None:
    passes = [CSEPass(), without_dead_code, shrink_pass(PLAN), with_shapes, without_dead_code]
    manager = PassManager(passes, run_checks_after_each_pass=True)
    manager.add_checks(lambda module: module.graph.lint())
    given = make()
    code = given.code
    result = manager(given)
    assert result.modified
    small = fxprune.shrink(MODEL, PLAN)
    torch.testing.assert_close(called(result.graph_module), small(X))
    assert result.graph_module.get_parameter("first.weight").shape[0] == 4
    assert given.code == code or make is exported  # CSEPass copies where it changes anything
    assert given.get_parameter("first.weight").shape[0] == 8


def test_the_single_passes_do_what_the_pipeline_does() -> None:
    graph_module = traced()
    layout = PLAN.layout(fxprune.analyze(graph_module, X))
    steps = [torch_pass(step, layout) for step in shrink_pipeline().passes]
    single = PassManager([step for each in steps for step in (each, without_dead_code)])
    whole = PassManager([torch_pass(shrink_pipeline(), layout)])
    one, other = single(graph_module).graph_module, whole(graph_module).graph_module
    torch.testing.assert_close(one(X), other(X), rtol=0, atol=0)
    torch.testing.assert_close(one(X), fxprune.shrink(MODEL, PLAN)(X), rtol=0, atol=0)
    assert fxprune.verify(MODEL, one, PLAN, X)


def test_torch_orders_them_by_constraints() -> None:
    shrinking = shrink_pass(PLAN)
    order = [this_before_that_pass_constraint(shrinking, with_shapes)]
    result = PassManager([with_shapes, shrinking], order)(traced()).graph_module
    conv = next(n for n in result.graph.nodes if n.target == "second")
    assert conv.meta["tensor_meta"].shape[1] == 3


def test_a_plan_may_be_a_file_or_ratios(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    for plan in (tmp_path / "plan.json", {"first": 0.5, "second": 0.5}):
        small = PassManager([shrink_pass(plan, X)])(traced()).graph_module
        torch.testing.assert_close(small(X), fxprune.shrink(MODEL, PLAN)(X))


def test_a_plan_that_removes_nothing_modifies_nothing() -> None:
    plan = fxprune.plan(MODEL, X, 0.0)
    assert not PassManager([shrink_pass(plan)])(traced()).modified


def test_the_result_has_a_report() -> None:
    result = shrink_pass(PLAN, verify="quick")(traced())
    report = result.graph_module.meta["fxprune"]
    assert report.changed
    assert report.verification.relative < 1e-5


def test_a_failure_tells_the_pass_and_its_cause() -> None:
    def removing(graph_module: fx.GraphModule) -> PassResult:
        """Somebody's pass after which channels are an output."""
        output = graph_module.graph.output_node()
        first = next(n for n in graph_module.graph.nodes if n.target == "first")
        output.args = ((output.args[0], first),)
        graph_module.recompile()
        return PassResult(graph_module, True)

    manager = PassManager([removing, shrink_pass(PLAN)])
    with pytest.raises(Exception, match=r"'fxprune.shrink' pass after .*\['removing'\]") as caught:
        manager(traced())
    assert isinstance(caught.value.__cause__, fxprune.PlanError)
    text = "".join(traceback.format_exception(caught.value))
    assert "output of the model" in text
    assert "what to do: make a plan for this graph" in text


def test_a_failing_pass_of_ours_is_told_by_its_name() -> None:
    layout = PLAN.layout(fxprune.analyze(MODEL, X))
    slicing = torch_pass(shrink_pipeline().passes[0], layout)
    with pytest.raises(Exception, match=r"'SliceState' pass after .*\['SliceState'\]") as caught:
        PassManager([slicing, slicing])(traced())
    assert isinstance(caught.value.__cause__, fxprune.RewriteError)


def test_a_module_that_is_no_graph_is_refused() -> None:
    with pytest.raises(fxprune.InputError, match="got a Net, not a GraphModule"):
        shrink_pass(PLAN)(MODEL)


def test_ratios_need_inputs_and_a_plan_has_to_be_one() -> None:
    with pytest.raises(fxprune.InputError, match="example inputs are missing"):
        shrink_pass({"first": 0.5})(traced())
    with pytest.raises(fxprune.InputError, match="the plan is a int"):
        shrink_pass(3)
