"""Candidate plans side by side: what each leaves of a model, and what that is worth."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from fxprune.analysis import DependencyGraph, Model
from fxprune.api import Emit, shrink
from fxprune.cost import undropped_cost
from fxprune.errors import InputError, shown
from fxprune.inputs import materialize
from fxprune.layers import Change, layers_of
from fxprune.meaning import Constants, Norm
from fxprune.module_trees import as_parameter, clone_tree
from fxprune.planning import Plan
from fxprune.reports.checks import plan_digest
from fxprune.reports.tradeoff_data import Candidate, Tradeoff

if TYPE_CHECKING:
    from torch import nn

    from fxprune.planning.layout import Layout

Evaluate: TypeAlias = Callable[[Any], Any]
ORIGINAL = "(original)"
"""The name of the model as it is."""
KEPT_NORM = "share of the squared weights"
"""What a candidate is worth if nobody says: a larger share of the weights' squares is left."""


def tradeoff(
    model: Model,
    plans: Mapping[str, Plan | str | os.PathLike[str]],
    example_inputs: Any = None,
    *,
    evaluate: Evaluate | None = None,
    values: Mapping[str, float] | None = None,
    metric: str = "value",
    mode: Literal["max", "min"] = "max",
    emit: Emit = "graph",
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = "quick",
) -> Tradeoff:
    """Hold candidate plans against one another: parameters, MACs, and what each is worth.

    What a candidate is worth is what `evaluate` says of the model that its plan makes, or what is
    known already (`values`). With neither it is the share of the sum of squares of all parameters
    that the plan leaves, which needs no data and says little; `metric` and `mode` go unused.

    Args:
        model: that the plans were made for; it is not changed.
        plans: the candidates, by names to show; plans, or paths of their files.
        example_inputs: as for `fxprune.shrink`.
        evaluate: takes a shrunk model, and a copy of the original, and returns a number.
        values: what is known of candidates, by name, and of "(original)"; others have a row, but
            no place in the plot.
        metric: what the numbers are, in a word.
        mode: "max" if higher numbers are better, "min" if lower ones are.
        emit: the kind of models that `evaluate` gets (see `fxprune.shrink`).
        norm: what these mean (see `fxprune.shrink`).
        constants: see `fxprune.shrink`.
        verify: how they are proved (see `fxprune.shrink`).

    Returns:
        The candidates, after the original where its value is known.

    Raises:
        InputError: both or unknown values are given, or `evaluate` returns no number.
        PlanError: a plan cannot be read, or is for another model.
        RewriteError, VerificationError: see `fxprune.shrink`.
    """
    loaded = {name: Plan.of(plan) for name, plan in plans.items()}
    _check(loaded, evaluate, values, mode)
    found: list[Candidate] = []
    if evaluate is None and values is None:
        metric, mode = KEPT_NORM, "max"
    for name, plan in loaded.items():
        inputs = materialize(plan.inputs, seed=None) if example_inputs is None else example_inputs
        deps = plan.analyze(model, inputs)
        layout = plan.layout(deps)
        if not found:
            found += _original(deps, evaluate, values)
        value = _kept_norm(deps, layout) if values is None else values.get(name)
        layers = layers_of(deps, plan)
        if evaluate is not None or constants == "fold":  # folding adds biases
            small: Any = shrink(
                *(deps, plan, example_inputs),
                emit=emit,
                norm=norm,
                constants=constants,
                verify=verify,
            )
            layers = getattr(small, "graph_module", small).meta["fxprune"].layers
            value = value if evaluate is None else _number(evaluate(small), name)
        parameters = Change.total(layer.parameters for layer in layers).after
        macs = Change.total(layer.macs for layer in layers).after
        found.append(Candidate(name, parameters, macs, value, plan_digest(plan)))
    return Tradeoff(metric, mode, tuple(found))


def _check(
    plans: Mapping[str, Plan],
    evaluate: Evaluate | None,
    values: Mapping[str, float] | None,
    mode: str,
) -> None:
    if mode not in ("max", "min"):
        raise InputError(f"mode={shown(mode)} is not known", hint='pass "max" or "min"')
    if ORIGINAL in plans:
        raise InputError(f"a candidate is called {ORIGINAL}", hint="give it another name")
    if evaluate is not None and values is not None:
        raise InputError(
            "what candidates are worth is both known and to be found out",
            hint="pass either evaluate= or values=",
        )
    for name, value in ({} if values is None else values).items():
        if name not in (*plans, ORIGINAL):
            raise InputError(f"values= names {name!r}, which is no candidate")
        _number(value, name)


def _number(value: Any, name: str) -> float:
    """What somebody says that a candidate is worth."""
    found = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if isinstance(found, bool) or not isinstance(found, Real) or not math.isfinite(float(found)):
        raise InputError(
            f"the candidate {name} is worth {shown(value)}", why="a finite number was expected"
        )
    return float(found)


def _original(
    deps: DependencyGraph, evaluate: Evaluate | None, values: Mapping[str, float] | None
) -> list[Candidate]:
    """The model as it is, if it is known what that is worth."""
    cost = undropped_cost(deps)
    if evaluate is not None:
        value = _number(evaluate(_copy(deps)), ORIGINAL)
    elif values is None:
        value = 1.0
    elif ORIGINAL in values:
        value = _number(values[ORIGINAL], ORIGINAL)
    else:
        return []
    return [Candidate(ORIGINAL, cost.parameters, cost.macs, value)]


def _copy(deps: DependencyGraph) -> nn.Module:
    model = deps.model if deps.drop is None else deps.drop.model
    return clone_tree(model, lambda tensor: as_parameter(tensor.detach().clone(), tensor))


def _kept_norm(deps: DependencyGraph, layout: Layout) -> float:
    """The share of the sum of squares of all parameters that a plan leaves."""
    whole = left = 0.0
    model = deps.model if deps.drop is None else deps.drop.model
    for name, parameter in model.named_parameters():
        squares = parameter.detach().abs().double().square()
        whole += float(squares.sum())
        if name in deps.state:
            for dim, axis in enumerate(deps.trace.axes.get(name, ())):
                if (kept := layout.kept(axis)) is not None:
                    squares = squares.index_select(dim, torch.from_numpy(kept).to(squares.device))
            left += float(squares.sum())
        elif deps.drop is None:
            left += float(squares.sum())
    return left / whole if whole else 1.0
