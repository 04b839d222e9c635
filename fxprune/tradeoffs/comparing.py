"""`tradeoff`: candidate plans side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal

import torch

from fxprune.analysis import DependencyGraph, Model
from fxprune.api import Emit
from fxprune.cost import undropped_cost
from fxprune.errors import InputError, shown
from fxprune.importance.running import tracked
from fxprune.interruptions import noted
from fxprune.layers import layers_of
from fxprune.meaning import Constants, Norm
from fxprune.module_trees import fingerprint
from fxprune.planning import Plan
from fxprune.reports.checks import plan_digest
from fxprune.reports.tradeoff_data import Candidate, Tradeoff
from fxprune.sensitivities.runs import (
    Evaluate,
    Step,
    Verify,
    check_running,
    checked_pending,
    outcomes,
    whole_model,
)
from fxprune.tradeoffs.appraising import ORIGINAL, Appraisal, Making, Worth, layers_in, number
from fxprune.tradeoffs.records import Values

if TYPE_CHECKING:
    from fxprune.planning.layout import Layout

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
    verify: Verify = "quick",
    executor: Executor | None = None,
    pending: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
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
        executor: what makes and evaluates models, as for `fxprune.sensitivity`: any
            `concurrent.futures.Executor`, by default this thread. The order of candidates and all
            that is told of them do not depend on it.
        pending: how many models the executor has at a time, as for `fxprune.sensitivity`.
        resume: a JSON file that is written after every candidate. If it is there, its candidates
            are not evaluated again: those of the same plan, whatever their name. `evaluate` is not
            looked at: take another file if that has changed.
        progress: whether a bar on the standard error stream tells how far `evaluate` is.

    Returns:
        The candidates, after the original where its value is known.

    Raises:
        InputError: both or unknown values are given; `evaluate` fails or returns no number, which
            names the candidate; it cannot be sent to another process; or `resume` is damaged, or of
            another model, other weights or other options.
        PlanError: a plan cannot be read, or is for another model.
        FxPruneError: the executor failed, or `resume` cannot be written.
        RewriteError, VerificationError: see `fxprune.shrink`; names the candidate.
    """
    loaded = {name: Plan.of(plan) for name, plan in plans.items()}
    _check(loaded, evaluate, values, mode)
    making = Making(emit, norm, constants, verify)
    if evaluate is None:
        _refuse_running(executor=executor, pending=pending, resume=resume)
        found = _without_running(Appraisal(model, example_inputs, _never, making), loaded, values)
        if values is None:
            metric, mode = KEPT_NORM, "max"
        return Tradeoff(metric, mode, found)
    check_running(evaluate, executor, resume)
    appraisal = Appraisal(model, example_inputs, evaluate, making)
    known = _evaluated(
        *(appraisal, loaded),
        executor=executor,
        pending=checked_pending(pending),
        resume=resume,
        progress=progress,
    )
    return Tradeoff(metric, mode, known)


def _evaluated(
    appraisal: Appraisal,
    plans: Mapping[str, Plan],
    *,
    executor: Executor | None,
    pending: int,
    resume: str | os.PathLike[str] | None,
    progress: bool,
) -> tuple[Candidate, ...]:
    """The original and the candidates, with what is found out by running them."""
    for plan in plans.values():  # what is wrong with one is told before the work
        plan.layout(appraisal.analysis(plan))
    if not plans:
        return ()
    first = next(iter(plans.values()))
    steps = {Step(first, f"the candidate {ORIGINAL}", is_original=True): ORIGINAL}
    steps |= {Step(plan, f"the candidate {name}"): name for name, plan in plans.items()}
    keys = {step: ORIGINAL if step.is_original else plan_digest(step.plan) for step in steps}
    deps = appraisal.analysis(first)
    model = fingerprint(whole_model(deps).state_dict())
    made = {**appraisal.making.told(), "model": model, "inputs": str(deps.inputs)}
    record = Values.of(made, resume)
    missing = {key: step for step, key in keys.items() if key not in record.known}
    bar = outcomes(
        *(list(missing.values()), appraisal, executor, pending),
        lambda step, worth: record.note(keys[step], worth),
    )
    with noted(lambda: record.told(list(keys.values()))), closing(bar):
        shown_bar = tracked(bar, "Candidates", shown=progress, total=len(missing))
        with closing(shown_bar):
            for _ in shown_bar:
                pass
    return tuple(
        _candidate(name, record.known[keys[step]], "" if step.is_original else keys[step])
        for step, name in steps.items()
    )


def _candidate(name: str, worth: Worth, digest: str = "") -> Candidate:
    return Candidate(name, worth.parameters, worth.macs, worth.value, digest)


def _without_running(
    appraisal: Appraisal, plans: Mapping[str, Plan], values: Mapping[str, float] | None
) -> tuple[Candidate, ...]:
    """The candidates with values that are known, or that weights alone tell."""
    found: list[Candidate] = []
    for name, plan in plans.items():
        deps = appraisal.analysis(plan)
        layout = plan.layout(deps)
        if not found and (values is None or ORIGINAL in values):
            cost = undropped_cost(deps)
            value = 1.0 if values is None else number(values[ORIGINAL], f"the candidate {ORIGINAL}")
            found.append(_candidate(ORIGINAL, Worth(value, cost.parameters, cost.macs)))
        worth = _kept_norm(deps, layout) if values is None else values.get(name)
        folds = appraisal.making.constants == "fold"  # which adds biases
        layers = layers_in(appraisal.shrunk(plan)) if folds else layers_of(deps, plan)
        found.append(_candidate(name, Worth.of(worth, layers), plan_digest(plan)))
    return tuple(found)


def _never(_model: Any) -> None:
    """Stands for `evaluate` where nothing is evaluated."""


def _refuse_running(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name}= is given, and nothing is evaluated",
                hint=f"pass evaluate=, or leave out {name}=",
            )


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
        number(value, f"the candidate {name}")


def _kept_norm(deps: DependencyGraph, layout: Layout) -> float:
    """The share of the sum of squares of all parameters that a plan leaves."""
    whole = left = 0.0
    for name, parameter in whole_model(deps).named_parameters():
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
