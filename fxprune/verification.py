"""Proof: the original and the shrunk model side by side."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from fxprune.accumulation import reason
from fxprune.analysis import DependencyGraph, Model
from fxprune.comparison import (
    NO_REFERENCE,
    Claim,
    NotFiniteError,
    UnprovableError,
    Verification,
)
from fxprune.drawing.scenes import drawable
from fxprune.drop_verification import check_drop
from fxprune.emission import is_on_meta
from fxprune.errors import AnalysisError, CaptureError, InputError, VerificationError, first_of
from fxprune.exporting import program_inputs, program_module
from fxprune.gradient_verification import check_gradients
from fxprune.graph_verification import GraphComparison, has_same_nodes
from fxprune.input_sets import Inputs, magnitudes, negative, sizes
from fxprune.inputs import bind, is_exported, materialize
from fxprune.meaning import Constants, Meaning, Norm
from fxprune.module_verification import ModuleComparison
from fxprune.planning import Plan
from fxprune.planning.transferring import transferred
from fxprune.precision import LARGEST_DOUBLE, Precision, size_in_double
from fxprune.reconstruction.noted import repaired_of
from fxprune.reconstruction.repairable import refuse_others
from fxprune.reconstruction.repaired import changed_tensors, with_tensors_of
from fxprune.shape_verification import check_shapes
from fxprune.stepping import OriginalFailsError, ResultFailsError
from fxprune.surroundings import undisturbed
from fxprune.values import tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


@undisturbed()
def verify(
    model: Model,
    small: nn.Module | ExportedProgram,
    plan: Plan | str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    norm: Norm | None = None,
    constants: Constants | None = None,
    quick: bool = False,
) -> Verification:
    """Check that a shrunk model computes what the original computes for the kept channels.

    1. Shapes: every node has the shape that the labels predict; no data is involved.
    2. Lockstep: both models run, and the kept positions of every node are compared with the node of
       the same name, if `small` is what `shrink` returned; the outputs only, if it is any other
       module (one that was pickled and read again, say). The reference is the original graph with
       removed positions zeroed at each operand that is summed over. A module that is no graph is
       compared with the original's own forward, run with these positions masked: what every module
       returns, if it is what `shrink` returned, else the outputs only. Both are called for real,
       too. Inputs are the example, all-negative ones, other magnitudes, another batch, and half
       the size, the last three where the original takes them.
    3. Non-interference: removed positions of the original that are NaN reach no kept value.
    4. Gradients of kept positions, in training mode where the model can be run in it.
    5. Dropped blocks: the original of all that is the model without them, which is compared with
       the user's own, in which hooks let these blocks return their input.

    All of that is done in float64 where the model takes at most 2 GiB in it. Where a graph names a
    narrower type itself, it runs in float64 there, too: the same operators, but a cast to float32
    becomes one to float64, in both models and in their calls. Neither model is changed; but for
    gradients, both are run in eval mode. `docs/correctness.md` tells what each check can find.

    Args:
        model: the original, or the DependencyGraph that `analyze` made of it.
        small: the shrunk model, or the shrunk `ExportedProgram`, of which outputs are compared. If
            its report, or what went into a file of it, says that tensors were repaired (see
            `reconstruct` and `fold`), the reference is the original with the values of these. No
            others are taken than those that a repair for the plan may change.
        plan: what was removed: a Plan, or the path of one.
        example_inputs: a tensor, a tuple or a dict; by default random ones of the plan's shapes.
            A model that is run on data to be analyzed needs them, unless its DependencyGraph is
            passed.
        norm: what `small` is to mean, "kept" or "exact" (see `shrink`); by default what its report
            says, else "kept".
        constants: likewise, "drop" or "fold".
        quick: shapes and one run of each model on the example inputs, in its own types, in which
            NaN stands at removed positions of the original; if anything differs, another in
            float64, which tells rounding from a mistake. What only an activation or a batch norm
            reads is compared through what that yields. It takes as long as two to three calls of
            the original on a batch of images, and six or more on one; all checks take a hundred.

    Raises:
        VerificationError: names the first node that differs, its source line, and by how much.
        PlanError: the plan is not for this model.
        InputError: there is no such meaning, or the inputs do not fit, or `small` says that tensors
            were repaired which no repair for this plan changes.
    """
    noted = small.graph_module if isinstance(small, ExportedProgram) else small
    if isinstance(small, ExportedProgram):
        small = program_module(small)
    if not isinstance(small, nn.Module):
        raise InputError(
            f"the shrunk model is a {type(small).__name__}, not a torch.nn.Module",
            hint="pass what fxprune.shrink returned",
        )
    report = (vars(noted).get("meta") or {}).get("fxprune")
    said = getattr(report, "meaning", Meaning())
    meaning = Meaning(norm or said.norm, constants or said.constants)
    plan = Plan.of(plan)
    if isinstance(model, ExportedProgram):
        example_inputs = program_inputs(model, example_inputs)
    deps = _analyzed(plan, model, example_inputs)
    if isinstance(model, ExportedProgram):
        plan = transferred(plan, deps)
    layout = plan.layout(deps)
    if example_inputs is not None:
        example_inputs = bind(deps.graph_module, example_inputs)
    if repaired := repaired_of(noted):
        refuse_others(deps, layout, repaired, example_inputs, meaning.norm)
        deps = with_tensors_of(small, deps, layout, repaired)
        layout = plan.layout(deps)
    claim = Claim(deps, layout, meaning)
    known_parts = report is not None and noted is small  # export numbers nodes anew
    with drawable(deps, plan):
        try:
            done = verify_claim(claim, small, example_inputs, known_parts=known_parts, quick=quick)
        except VerificationError as error:
            if repaired or not (names := changed_tensors(small, claim)):
                raise
            raise _other_weights(error, names) from error
    return replace(done, repaired=repaired)


def _other_weights(error: VerificationError, names: Sequence[str]) -> VerificationError:
    """The error of a result that has not the weights of the original, as repaired ones have not."""
    hint = (
        f"the shrunk model has other values in {first_of(names, 2)}. If these were repaired from"
        " data, it lacks their names, which fxprune.save and torch.save keep: pass what"
        " fxprune.shrink(..., calibrate=...) returned or what was read of that, or as the original"
        " the repaired one (Reconstruction.model). Else pass the original with the weights that"
        " were shrunk; if it is that, please report it"
    )
    return type(error)(error.what, where=error.where, why=error.why, hint=hint)


def _analyzed(plan: Plan, model: Model, example_inputs: Any) -> DependencyGraph:
    """The analysis for the plan's shapes; on the inputs themselves if the model has to be run."""
    if isinstance(model, ExportedProgram) and example_inputs is not None:
        return plan.analyze(model, example_inputs)
    try:
        return plan.analyze(model, materialize(plan.inputs, seed=None))
    except (AnalysisError, CaptureError):
        if example_inputs is None:
            raise
        return plan.analyze(model, example_inputs)


def verify_claim(
    claim: Claim,
    small: nn.Module,
    values: Inputs | None,
    *,
    known_parts: bool,
    quick: bool = False,
) -> Verification:
    """As `verify`, for a finished analysis and layout.

    Args:
        claim: the analysis of the original, what stays, and what that means.
        small: the shrunk model.
        values: one for each placeholder, or None for random ones.
        known_parts: whether nodes (and modules) of the same name are the same. They are in what
            `shrink` returns, but not in a graph that was pickled since: reading it traces its code
            again, which numbers the nodes anew.
        quick: as for `verify`.
    """
    start = time.perf_counter()
    deps = claim.deps
    if is_on_meta(deps):
        raise InputError(
            "a model without data (on the meta device) cannot be verified",
            hint="load the weights, or pass verify=False",
        )
    values = materialize(deps.inputs, seed=0) if values is None else values
    dropped = check_drop(deps, values)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        check = _Check(claim, small, values, known_parts)
        result = check.quick() if quick else check.full()
    return replace(result, dropped=dropped, seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class _Check:
    """One verification."""

    claim: Claim
    small: nn.Module
    values: Inputs
    known_parts: bool

    def quick(self) -> Verification:
        """Shapes, and one run of each model in its own types, with NaN at removed positions.

        If something differs, the run is made in float64, which tells rounding from a mistake: some
        models are so badly conditioned that they round by more than any tolerance.
        """
        shapes = check_shapes(self.claim, self.small, known_parts=self.same_nodes)
        try:
            found = self.once(self.precisions[-1])
        except ResultFailsError:
            raise
        except VerificationError as error:
            found = self.once_in_double(error)
        return replace(found, shapes=shapes)

    def once_in_double(self, error: VerificationError) -> Verification:
        """The same run in float64, after an error in the types of the model.

        Raises:
            VerificationError: that error, if something differs there too or nothing runs there.
        """
        for precision in self.precisions[:-1]:
            try:
                return self.once(precision)
            except (OriginalFailsError, ResultFailsError, NotFiniteError):
                continue  # an operator takes no float64, or has another meaning in it
            except VerificationError:
                break
        raise error

    def once(self, precision: Precision) -> Verification:
        """One run of each model on the example, with NaN at removed positions if they take it."""
        example = {"example": self.values}
        if self.claim.meaning.constants == "drop":  # what is folded gets through, by right
            poisoned = self.kind(self.claim, self.small, precision, self.known_parts, poisoned=True)
            try:
                poisoned.run_on(example)
                nodes = poisoned.result.nodes
                return replace(poisoned.result, undisturbed=nodes)
            except (VerificationError, OriginalFailsError):
                pass  # a difference, a leak, or an operator that takes no NaN
        done = self.kind(self.claim, self.small, precision, self.known_parts)
        done.run_on(example)
        done.check_interference(self.values)
        return done.result

    def full(self) -> Verification:
        """All checks, in the most exact precision that the models run in."""
        shapes = check_shapes(self.claim, self.small, known_parts=self.same_nodes)
        involves_calls = not (self.is_graph and self.same_nodes)
        done = _most_exact(self.compared, self.precisions, involves_calls=involves_calls)
        if isinstance(done, ModuleComparison):
            done.check_own_types(self.values, self.precisions[-1])
        else:
            rest = self.precisions[self.precisions.index(done.precision) :]
            _most_exact(partial(self.called, done), rest, involves_calls=True)
            self.graphs(self.precisions[-1]).check_types(self.values)
        done.check_interference(self.values)
        if self.claim.deps.decisions:
            done.leave_out("further inputs", "forward decides by values, and may decide otherwise")
        elif done.precision.dtype is not torch.float64:
            why = "the model takes more than 2 GiB in float64, or does not run in it"
            done.leave_out("further inputs", why)
        else:
            done.run_where_possible(magnitudes(self.values), NO_REFERENCE)
            done.run_at_sizes(sizes(self.values))
        result = self.with_gradients(done)
        dtype: torch.dtype = getattr(torch, result.dtype)
        return replace(result, shapes=shapes, why=reason(self.claim, dtype))

    def with_gradients(self, done: GraphComparison | ModuleComparison) -> Verification:
        """What was found, and whether gradients agree."""
        deps, result = self.claim.deps, done.result
        why = ""
        if (
            done.precision.dtype is not torch.float64
            or size_in_double(deps.state.values()) > LARGEST_DOUBLE // 4
        ):
            why = "the model is too large, or does not run in float64"
        elif deps.decisions:
            why = "forward decides by values"
        elif is_exported(self.small) and not is_exported(deps.graph_module):
            why = "an exported program has one mode, and the original two"
        elif self.claim.meaning.constants == "fold":
            why = "what is folded into a bias has no gradient"
        if not why:
            try:
                count, worst = check_gradients(
                    self.claim,
                    self.small,
                    done.precision,
                    self.values,
                    result.tolerance,
                    known_parts=self.known_parts,
                )
                if count:
                    return replace(result, gradients=count, gradient_error=worst)
                why = "no output has a gradient by a parameter"
            except (OriginalFailsError, UnprovableError) as error:
                why = error.what
        done.leave_out("gradients", why)
        return done.result

    @property
    def is_graph(self) -> bool:
        """Whether the result is compared with a graph."""
        graphs = (self.small, self.claim.deps.model)
        return any(isinstance(model, fx.GraphModule) for model in graphs)

    @property
    def same_nodes(self) -> bool:
        """Whether the nodes of the result are known by their names."""
        return self.known_parts and has_same_nodes(self.small, self.claim.deps.graph_module)

    @property
    def kind(self) -> type[GraphComparison | ModuleComparison]:
        """How the models are compared."""
        return GraphComparison if self.is_graph else ModuleComparison

    @cached_property
    def precisions(self) -> list[Precision]:
        """What the models may be run in, the most exact first."""
        return Precision.candidates(self.claim.deps.state.values(), tensors(list(self.values)))

    def compared(self, precision: Precision) -> GraphComparison | ModuleComparison:
        """Both models side by side, on the inputs that they have to take."""
        comparison = self.kind(self.claim, self.small, precision, self.known_parts)
        comparison.run_on({"example": self.values})
        turned = {"all negative": negative(self.values)}
        comparison.run_where_possible(turned, (OriginalFailsError, NotFiniteError))
        return comparison

    def graphs(self, precision: Precision) -> GraphComparison:
        """Both graphs side by side."""
        return GraphComparison(self.claim, self.small, precision, self.known_parts)

    def called(self, done: GraphComparison, precision: Precision) -> None:
        """Both models called for real, beside their graphs."""
        again = done if precision == done.precision else self.graphs(precision)
        # a recording can hold numbers that it took from the example inputs
        recorded = self.claim.deps.captured_by == "record"
        takes_negative = "all negative" in done.result.inputs
        again.check_calls(self.values)
        if recorded and takes_negative:
            again.check_calls(negative(self.values))


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
