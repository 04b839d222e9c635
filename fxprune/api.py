"""`shrink`: from a model and a plan to a smaller, verified graph module."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from torch import fx, nn

from fxprune.analysis import DependencyGraph
from fxprune.cost import cost_of
from fxprune.errors import Diagnostic, InputError
from fxprune.inputs import bind, materialize
from fxprune.passes import shrink_pipeline
from fxprune.planning import Layout, Plan
from fxprune.planning import plan as make
from fxprune.report import ShrinkReport
from fxprune.verification import verify_layout

Removal = Mapping[str, "float | Sequence[int]"]


def shrink(
    model: nn.Module | DependencyGraph,
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    verify: bool = True,
) -> fx.GraphModule:
    """Remove channels for real, and prove the result.

    The result is a `torch.fx.GraphModule` with smaller tensors, the same parameter names, train /
    eval flags and dtypes. It shares no tensor with `model`, which is not changed. Statistics over a
    pruned axis (a layer norm over the residual width) run over the kept channels; what removed
    channels would still emit is dropped.

    Args:
        model: the model that the plan was made for, or the DependencyGraph that `analyze` made of
            it (which saves analyzing it again).
        plan: a Plan, the path of one, or a dict {module name or pattern: ratio or list of output
            channels}, which needs `example_inputs`.
        example_inputs: a tensor, a tuple or a dict of keyword arguments. With a Plan they are used
            to verify only; by default random ones of the plan's shapes are made.
        verify: compare every node with the original before returning (see `fxprune.verify`).

    Returns:
        The shrunk model; `result.meta["fxprune"]` is its ShrinkReport.

    Raises:
        PlanError: the plan is malformed or for another model, or names what is not there.
        InputError: example inputs are missing or do not fit.
        RewriteError: a node cannot take the new shapes; names the node.
        VerificationError: the result differs from the original; names the first node.
        CaptureError, AnalysisError: see `analyze`.
    """
    plan = _as_plan(model, plan, example_inputs)
    inputs = materialize(plan.inputs, seed=None) if example_inputs is None else example_inputs
    deps = plan.analyze(model, inputs)
    values = None if example_inputs is None else bind(deps.graph_module, example_inputs)
    layout = plan.layout(deps)
    small = shrink_pipeline()(deps.graph_module, layout).graph_module
    small.meta["fxprune"] = ShrinkReport(
        before=cost_of(deps.graph_module, deps.trace, lambda tensor: tensor.shape),
        after=cost_of(small, deps.trace, layout.shape),
        groups=plan.groups,
        verification=verify_layout(deps, layout, small, values, known_nodes=True)
        if verify
        else None,
        diagnostics=deps.diagnostics,
        renormalized=_renormalized(deps, layout),
    )
    return small


def _as_plan(model: nn.Module | DependencyGraph, given: Any, example_inputs: Any) -> Plan:
    if not isinstance(given, Mapping):
        return Plan.of(given)
    if example_inputs is None and not isinstance(model, DependencyGraph):
        raise InputError(
            "example inputs are missing",
            why="a dict of ratios or channels becomes a plan by analyzing the model",
            hint="pass example_inputs=, or make a plan with fxprune.plan first",
        )
    ratios: dict[str, Any] = {n: value for n, value in given.items() if isinstance(value, Real)}
    channels = {name: value for name, value in given.items() if name not in ratios}
    return make(model, example_inputs, ratios=ratios, channels=channels)


def _renormalized(deps: DependencyGraph, layout: Layout) -> tuple[Diagnostic, ...]:
    found = []
    for entry in deps.trace.renormalized:
        if layout.kept(entry.axis) is not None:
            place = entry.place.because("statistics over the kept channels")
            found.append(place.diagnostic())
    return tuple(dict.fromkeys(found))
