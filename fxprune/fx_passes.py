"""fxprune's passes for `torch.fx.passes.infra.pass_manager.PassManager`, among other passes.

>>> import torch, fxprune
>>> from fxprune.fx_passes import shrink_pass
>>> from torch.fx.passes.infra.pass_manager import PassManager
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
>>> manager = PassManager([shrink_pass({"0": 0.5}, torch.randn(1, 8))])
>>> manager(torch.fx.symbolic_trace(model)).graph_module.get_submodule("0")
Linear(in_features=8, out_features=3, bias=True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import fx
from torch.fx.passes.infra.pass_base import PassResult

from fxprune.analysis import analyze
from fxprune.api import as_plan, shrink
from fxprune.errors import InputError
from fxprune.inputs import materialize
from fxprune.planning import Plan
from fxprune.planning.transferring import transferred

if TYPE_CHECKING:
    import os

    from fxprune.api import Removal
    from fxprune.meaning import Constants, Norm
    from fxprune.passes import Pass
    from fxprune.planning import Layout

GraphPass: TypeAlias = Callable[[torch.nn.Module], PassResult]


def shrink_pass(
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = True,
) -> GraphPass:
    """`fxprune.shrink` as a pass: it analyzes the graph that it gets, shrinks and proves it.

    The plan may have been made for the model itself or for another graph of it: what it removes of
    parameters and buffers is removed, whatever other passes made of the graph in between. If they
    changed how channels are coupled, it is refused.

    Args:
        plan: a Plan, the path of one, or a dict {module name or pattern: ratio or list of output
            channels} for the graph that the pass gets, which needs `example_inputs`.
        example_inputs: see `fxprune.shrink`.
        norm: likewise.
        constants: likewise.
        verify: likewise.

    Returns:
        A function from a GraphModule, which it does not change, to torch's `PassResult`. It raises
        what `fxprune.shrink` raises. PassManager makes a bare Exception of that, whose message
        tells the pass, and whose `__cause__`, which Python prints above it, is the error.

    Raises:
        PlanError: the plan's file cannot be read.
        InputError: the plan is none.
    """
    given = plan if isinstance(plan, Mapping) else Plan.of(plan)

    def shrunk(graph_module: fx.GraphModule) -> PassResult:
        inputs = example_inputs
        if inputs is None and isinstance(given, Plan):
            inputs = materialize(given.inputs, seed=None)
        deps = analyze(graph_module, inputs)
        made = as_plan(deps, given, inputs)
        made = transferred(made, deps)
        options: Any = {"norm": norm, "constants": constants, "verify": verify}
        small = shrink(deps, made, example_inputs, **options)
        return PassResult(small, small.meta["fxprune"].changed)

    return _named("fxprune.shrink", shrunk)


def torch_pass(step: Pass, layout: Layout) -> GraphPass:
    """One pass of `fxprune.passes`, or a pipeline of them, as a pass for torch's PassManager.

    `[torch_pass(step, layout) for step in shrink_pipeline().passes]` does what
    `torch_pass(shrink_pipeline(), layout)` does, each on a copy of its own, so that other passes
    can look in between. Nothing is verified: `fxprune.verify(original, result, plan)` does that.

    Args:
        step: the pass.
        layout: what stays of the graph: `plan.layout(fxprune.analyze(graph_module, inputs))`.

    Returns:
        A function from the GraphModule that was analyzed, as earlier passes left it, to torch's
        `PassResult`; see `shrink_pass` for what it raises.
    """

    def applied(graph_module: fx.GraphModule) -> PassResult:
        done = step(graph_module, layout)
        return PassResult(done.graph_module, done.modified)

    return _named(step.name, applied)


def _named(name: str, apply: Callable[[fx.GraphModule], PassResult]) -> GraphPass:
    """A pass that torch's PassManager tells by this name."""

    def run(graph_module: torch.nn.Module) -> PassResult:
        if not isinstance(graph_module, fx.GraphModule):
            raise InputError(
                f"the pass got a {type(graph_module).__name__}, not a GraphModule",
                hint="trace the model first, with torch.fx.symbolic_trace or torch.export",
            )
        return apply(graph_module)

    run.__name__ = name
    return run
