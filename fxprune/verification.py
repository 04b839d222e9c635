"""Proof: the original and the shrunk model side by side."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import fx, nn

from fxprune.analysis import DependencyGraph, Model
from fxprune.comparison import Claim, Verification
from fxprune.errors import AnalysisError, CaptureError, InputError, VerificationError
from fxprune.graph_verification import GraphComparison, has_same_nodes
from fxprune.inputs import bind, materialize
from fxprune.meaning import Constants, Meaning, Norm
from fxprune.module_verification import ModuleComparison
from fxprune.planning import Plan
from fxprune.precision import Precision
from fxprune.stepping import OriginalFailsError, ResultFailsError
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


def verify(
    model: Model,
    small: nn.Module,
    plan: Plan | str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    norm: Norm | None = None,
    constants: Constants | None = None,
) -> Verification:
    """Check that a shrunk model computes what the original computes for the kept channels.

    Both are run on the example inputs and on all-negative ones, in float64 where that takes at
    most 2 GiB. Where a graph names a narrower type itself, it runs in float64 there, too: the same
    operators, but a cast to float32 becomes one to float64, in both models and in their calls. The
    reference is the original graph with removed positions zeroed at each operand
    that is summed over. Every node's kept positions are compared with the node of the same name,
    if `small` is what `shrink` returned; the outputs only, if it is any other module (one that was
    pickled and read again, say). A module that is no graph is compared with the original's own
    forward, run with these positions masked: what every module returns, if it is what `shrink`
    returned, else the outputs only. Neither model is changed; both are run in eval mode.

    Args:
        model: the original, or the DependencyGraph that `analyze` made of it.
        small: the shrunk model.
        plan: what was removed: a Plan, or the path of one.
        example_inputs: a tensor, a tuple or a dict; by default random ones of the plan's shapes.
            A model that is run on data to be analyzed needs them, unless its DependencyGraph is
            passed.
        norm: what `small` is to mean, "kept" or "exact" (see `shrink`); by default what its report
            says, else "kept".
        constants: likewise, "drop" or "fold".

    Raises:
        VerificationError: names the first node that differs, its source line, and by how much.
        PlanError: the plan is not for this model.
        InputError: there is no such meaning, or the inputs do not fit.
    """
    if not isinstance(small, nn.Module):
        raise InputError(
            f"the shrunk model is a {type(small).__name__}, not a torch.nn.Module",
            hint="pass what fxprune.shrink returned",
        )
    report = (vars(small).get("meta") or {}).get("fxprune")
    said = getattr(report, "meaning", Meaning())
    meaning = Meaning(norm or said.norm, constants or said.constants)
    plan = Plan.of(plan)
    deps = _analyzed(plan, model, example_inputs)
    if example_inputs is not None:
        example_inputs = bind(deps.graph_module, example_inputs)
    claim = Claim(deps, plan.layout(deps), meaning)
    return verify_claim(claim, small, example_inputs, known_parts=report is not None)


def _analyzed(plan: Plan, model: Model, example_inputs: Any) -> DependencyGraph:
    """The analysis for the plan's shapes; on the inputs themselves if the model has to be run."""
    try:
        return plan.analyze(model, materialize(plan.inputs, seed=None))
    except (AnalysisError, CaptureError):
        if example_inputs is None:
            raise
        return plan.analyze(model, example_inputs)


def verify_claim(
    claim: Claim, small: nn.Module, values: tuple[Any, ...] | None, *, known_parts: bool
) -> Verification:
    """As `verify`, for a finished analysis and layout.

    Args:
        claim: the analysis of the original, what stays, and what that means.
        small: the shrunk model.
        values: one for each placeholder, or None for random ones.
        known_parts: whether nodes (and modules) of the same name are the same. They are in what
            `shrink` returns, but not in a graph that was pickled since: reading it traces its code
            again, which numbers the nodes anew.
    """
    start = time.perf_counter()
    deps = claim.deps
    if any(t.device.type == "meta" for t in deps.state.values()):
        raise InputError(
            "a model without data (on the meta device) cannot be verified",
            hint="load the weights, or pass verify=False",
        )
    values = materialize(deps.inputs, seed=0) if values is None else values
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        result = _Check(claim, small, values, known_parts).result()
    return replace(result, seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class _Check:
    """One verification."""

    claim: Claim
    small: nn.Module
    values: tuple[Any, ...]
    known_parts: bool

    def result(self) -> Verification:
        """Compare, in the most exact precision that the models run in."""
        deps = self.claim.deps
        precisions = Precision.candidates(deps.state.values(), tensors(self.values))
        own = precisions[-1]
        is_graph = isinstance(self.small, fx.GraphModule) or isinstance(deps.model, fx.GraphModule)
        kind = GraphComparison if is_graph else ModuleComparison
        sets = {"example": self.values, "all negative": mapped(_negative, self.values)}

        def compared(precision: Precision) -> GraphComparison | ModuleComparison:
            comparison = kind(self.claim, self.small, precision, self.known_parts)
            comparison.run_on(sets)
            return comparison

        def called(precision: Precision) -> None:
            assert isinstance(done, GraphComparison)
            same = precision == done.precision
            again = done if same else done.again(precision)
            # a recording can hold numbers that it took from the example inputs
            for given in sets.values() if deps.captured_by == "record" else [self.values]:
                again.check_calls(given)

        same_nodes = self.known_parts and has_same_nodes(self.small, deps.graph_module)
        done = _most_exact(compared, precisions, involves_calls=not (is_graph and same_nodes))
        if isinstance(done, ModuleComparison):
            done.check_own_types(self.values, own)
        else:
            rest = precisions[precisions.index(done.precision) :]
            _most_exact(called, rest, involves_calls=True)
        return done.result


def _most_exact(
    check: Callable[[Precision], _T], precisions: Sequence[Precision], *, involves_calls: bool
) -> _T:
    """What a check returns in the first precision that the models run in.

    A difference between graphs counts at once. A call in float64 throughout may also differ because
    forward reads a type, or uses a constant that was computed in one; so it is made again with the
    types that it names, where a difference counts. What does not run goes on to the next precision,
    at last to the types of the model; graphs alone do so at once.
    """
    for precision in precisions[:-1]:
        if not (precision.throughout or involves_calls):
            continue
        try:
            return check(precision)
        except (OriginalFailsError, ResultFailsError):
            continue  # an operator takes no float64, or has another meaning in it
        except VerificationError:
            if not (precision.throughout and involves_calls):
                raise
    return check(precisions[-1])


def _negative(value: torch.Tensor) -> torch.Tensor:
    return -value.abs() if value.is_floating_point() else value
