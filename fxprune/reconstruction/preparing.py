"""What a repair starts from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.export import ExportedProgram

from fxprune.errors import InputError
from fxprune.importance.criterion import parameters_of
from fxprune.inputs import materialize
from fxprune.planning import Plan

if TYPE_CHECKING:
    import os

    from fxprune.analysis import DependencyGraph, Model


def prepared(
    model: Model, plan: Plan | str | os.PathLike[str], example_inputs: Any
) -> tuple[DependencyGraph, Plan]:
    """The analysis of a model that is to be repaired, and the plan.

    Raises:
        InputError: it cannot be repaired: it is a program, its weights have no data, or the plan
            drops blocks.
        PlanError: the plan is for another model.
        CaptureError, AnalysisError: see `analyze`.
    """
    if isinstance(model, ExportedProgram):
        raise InputError(
            "an ExportedProgram cannot be repaired", hint="pass the module that was exported"
        )
    plan = Plan.of(plan)
    made = materialize(plan.inputs, seed=None) if example_inputs is None else example_inputs
    deps = plan.analyze(model, made)
    if deps.drop is not None:
        raise InputError(
            "the plan drops whole blocks",
            why="what is repaired is the original with all its blocks",
            hint="drop the blocks first, and make a plan of channels for the model without them",
        )
    parameters_of(deps)  # refuses those without data
    return deps, plan
