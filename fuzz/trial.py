"""One program and one plan through the whole chain, judged by the oracle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fxprune
from fuzz.masked import ContradictionError
from fuzz.oracle import Oracle, difference
from fuzz.program import Program
from fuzz.pruning import Pruning

Kind: TypeAlias = Literal[
    "equal", "refused", "false alarm", "refuted", "wrong", "crashed", "unusable"
]
DEFECTS: tuple[Kind, ...] = ("refuted", "wrong", "crashed")


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        kind: "equal" to the oracle; "refused" with a reason; "false alarm", if fxprune's own
            verification refutes what the oracle finds equal; "refuted" by both; "wrong", if only
            the oracle finds it out; "crashed"; "unusable", if the original gives no finite
            numbers, or if nothing is left along an axis and the oracle cannot tell a sum over
            nothing from what has gone.
        reason: what was refused or found, in one line.
        before: parameters of the original.
        after: parameters of the result.
        captured: how the model became a graph.
        sets: the inputs on which the outputs are equal.
    """

    kind: Kind
    reason: str = ""
    before: int = 0
    after: int = 0
    captured: str = ""
    sets: tuple[str, ...] = ()


def attempt(program: Program, pruning: Pruning) -> Outcome:
    """Shrink a program by a plan, which verifies the result, and ask the oracle."""
    model = program.build()
    if not is_finite(model, program.draw_inputs()):
        return Outcome("unusable")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _shrunk(program, model, pruning)
        except fxprune.FxPruneError as error:
            return Outcome("refused", _reason(error))
        except Exception as error:  # noqa: BLE001  # whatever else is raised is a defect
            return Outcome("crashed", _reason(error))


def _shrunk(program: Program, model: nn.Module, pruning: Pruning) -> Outcome:
    inputs = program.draw_inputs()
    deps = fxprune.analyze(model, inputs)
    plan = pruning.plan(deps)
    plan = fxprune.Plan.from_json(plan.to_json())
    refutation = None
    try:
        small = fxprune.shrink(deps, plan, inputs)
    except fxprune.VerificationError as error:
        small = fxprune.shrink(deps, plan, inputs, verify=False)
        refutation = _reason(error)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    outcome = judged(
        program, model, small, plan, Outcome("equal", "", before, after, deps.captured_by)
    )
    if refutation is None:
        return outcome
    return replace(
        outcome, kind="false alarm" if outcome.kind == "equal" else "refuted", reason=refutation
    )


def judged(
    program: Program, model: nn.Module, small: nn.Module, plan: fxprune.Plan, equal: Outcome
) -> Outcome:
    """`equal`, if that is what the results are on all inputs that the original takes."""
    oracle, done = Oracle(model, plan.slices), []
    for name, inputs in input_sets(program).items():
        if not is_finite(model, inputs):
            continue
        try:
            expected = oracle.outputs(inputs)
            found = difference(small, inputs, expected)
        except ContradictionError as error:
            if _removes_whole_axes(plan):
                return replace(equal, kind="unusable", reason=f"{name}: {error}")
            found = f"contradiction: {error}"
        except AssertionError as error:
            if "recorded for" not in str(error):
                return replace(equal, kind="crashed", reason=f"{name}: {_reason(error)}")
            done.append(f"{name} (asserted away)")
            continue
        except Exception as error:  # noqa: BLE001  # the small model or the oracle
            return replace(equal, kind="crashed", reason=f"{name}: {_reason(error)}")
        if found is not None:
            return replace(equal, kind="wrong", reason=f"{name}: {found}")
        done.append(name)
    return replace(equal, sets=tuple(done))


def _removes_whole_axes(plan: fxprune.Plan) -> bool:
    """Whether nothing is left along an axis of a parameter."""
    return any(
        len(positions) == plan.shapes[name][dim]
        for name, dims in plan.slices.items()
        for dim, positions in dims.items()
    )


def input_sets(program: Program) -> dict[str, tuple[Tensor, ...]]:
    """Inputs to compare on: other numbers, all-negative ones, another batch, other sizes."""
    plain = program.draw_inputs(seed=1)
    return {
        "random": plain,
        "negative": tuple(-x.abs() if x.is_floating_point() else x for x in plain),
        "batch": program.draw_inputs(batch=3, seed=2),
        "larger": program.draw_inputs(batch=1, more=2, seed=3),
    }


def is_finite(model: nn.Module, inputs: Sequence[Tensor]) -> bool:
    """Whether the original takes inputs, and returns numbers."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = pytree.tree_leaves(model(*inputs))
    except (RuntimeError, IndexError, ValueError):
        return False
    return all(bool(x.isfinite().all()) and float(x.abs().max()) < 1e6 for x in outputs)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {' | '.join(line.strip() for line in lines[:4])}"
