"""`shrink`: from a model and a plan to a smaller, verified graph module."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, TypeAlias, overload

from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from fxprune.analysis import DependencyGraph, Model
from fxprune.choosing import plan as make
from fxprune.comparison import Claim
from fxprune.constants import (
    Addition,
    additions_to,
    check_foldable,
    fold_constants,
    folded_layout,
    known_additions,
)
from fxprune.cost import Cost, cost_with, macs_of, undropped_cost
from fxprune.drawing.scenes import drawable
from fxprune.dropping import refuse_cache_keepers
from fxprune.emission import (
    emit_module,
    example_arguments,
    put_report,
    refuse_decisions,
    refuse_exact,
)
from fxprune.errors import (
    Diagnostic,
    FxPruneError,
    InputError,
    RewriteError,
    VerificationError,
    shown,
)
from fxprune.exporting import program_inputs
from fxprune.inputs import bind, materialize, named_values
from fxprune.layers import layers_made, sizes_before
from fxprune.meaning import Constants, Meaning, Norm
from fxprune.module_trees import clone_tree, to_meta
from fxprune.passes import shrink_pipeline
from fxprune.passes.donation import Donation
from fxprune.planning import Plan
from fxprune.planning.transferring import transferred
from fxprune.pretrained import adapt_configs
from fxprune.programs import as_program, check_program
from fxprune.recipes import Recipe
from fxprune.reconstruction import fold as fold_channels
from fxprune.reconstruction import reconstruct
from fxprune.report import ShrinkReport
from fxprune.stepping import OriginalFailsError, ResultFailsError
from fxprune.surroundings import collector_paused, undisturbed
from fxprune.verification import verify_claim

Removal = Mapping[str, "float | Sequence[int]"]
Emit: TypeAlias = Literal["graph", "module", "auto"]
_OTHER_KIND = re.compile(r'(, or )?pass emit="\w+"(, which keeps [^,]*)?(, or |, )?')
"""The advice to ask for another kind of result."""


@overload
def shrink(
    model: ExportedProgram,
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    emit: Emit = "graph",
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = True,
    donate: Literal[False] = False,
    calibrate: Iterable[Any] | None = None,
    fold: bool = False,
) -> ExportedProgram: ...


@overload
def shrink(
    model: nn.Module | DependencyGraph,
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    emit: Literal["graph"] = "graph",
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = True,
    donate: bool = False,
    calibrate: Iterable[Any] | None = None,
    fold: bool = False,
) -> fx.GraphModule: ...


@overload
def shrink(
    model: nn.Module | DependencyGraph,
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    emit: Emit,
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = True,
    donate: bool = False,
    calibrate: Iterable[Any] | None = None,
    fold: bool = False,
) -> nn.Module: ...


@undisturbed()
def shrink(
    model: Model,
    plan: Plan | str | os.PathLike[str] | Removal,
    example_inputs: Any = None,
    *,
    emit: Emit = "graph",
    norm: Norm = "kept",
    constants: Constants = "drop",
    verify: bool | Literal["quick"] = True,
    donate: bool = False,
    calibrate: Iterable[Any] | None = None,
    fold: bool = False,
) -> nn.Module | ExportedProgram:
    """Remove channels for real, and prove the result.

    The result has smaller tensors, the same parameter names, train / eval flags and dtypes. It
    shares no tensor with `model`, which is not changed. `docs/correctness.md` defines what it
    computes, with a worked number for each choice.

    Args:
        model: the model that the plan was made for, or the DependencyGraph that `analyze` made of
            it (which saves analyzing it again); or an `ExportedProgram` of that model.
        plan: a Plan, the path of one, or a dict {module name or pattern: ratio or list of output
            channels}, which needs `example_inputs`.
        example_inputs: a tensor, a tuple or a dict of keyword arguments. With a Plan they are used
            to verify only; by default random ones of the plan's shapes are made. A model that is
            run on data to be analyzed needs them always.
        emit: the kind of result. "graph": a `torch.fx.GraphModule`. "module": a copy of the user's
            own module, with its forward and its other methods, smaller tensors and corrected
            attributes (see `fixer`). "auto": a graph, and a module where a graph is refused or
            refuted; for a model that was recorded the other way round.
        norm: what statistics over a pruned axis run over (a layer norm over the residual width, a
            mean, a softmax). "kept": the kept channels. "exact": the original's width, with zeros
            for the removed channels, so that the result is the zero-masked original to rounding;
            needs `emit="graph"` where there are such statistics.
        constants: what becomes of the constant that a removed channel still emits, its bias through
            batch norm and activation. "drop": nothing. "fold": it is added to the bias of whatever
            reads the channel, so that the result is the unmasked original where the removed
            channels are constant there; refused for channels where that is not exact.
        verify: prove the result before returning it, by all checks of `fxprune.verify`; "quick" for
            its quick ones; False for none.
        donate: use the weights of `model` up: each tensor gives its memory to the result, so that
            no more than the largest of them is there twice. What is left of the model is good for
            nothing, and so is whatever else holds these tensors, such as an optimizer. So nothing
            can be proved any more: needs `verify=False`. Whatever is refused is refused before.
        calibrate: batches of unlabelled data (a data loader) to repair layers with that read
            removed channels, and norms, as `reconstruct` does by default, with a bar on terminals.
            What is proved is that the result is the repaired original, and `fxprune.verify` knows
            of it. Its report tells how well each layer and norm was repaired. Not for
            `constants="fold"`, `donate=True` or an `ExportedProgram`.
        fold: merge removed channels into kept ones that are like them, without data, as
            `fxprune.fold` does. What is proved is that the result is the folded original. Not for
            `calibrate`, and not for what that is not for.

    Returns:
        The shrunk model; `result.meta["fxprune"]` is its ShrinkReport. Of an `ExportedProgram` it
        is another one, with the same inputs and outputs, in which the sizes that were dynamic still
        are; its report is `result.graph_module.meta["fxprune"]`.

    Raises:
        PlanError: the plan is malformed or for another model, or names what is not there.
        InputError: example inputs are missing or do not fit.
        RewriteError: a node cannot take the new shapes, or what `norm` or `constants` asks for;
            names the node.
        VerificationError: the result differs from the original; names the first node or module.
        CaptureError, AnalysisError: see `analyze`.
    """
    check_making(emit, verify)
    _check_donation(model, donate, verify)
    meaning = Meaning(norm, constants)
    if calibrate is not None or fold is not False:
        _check_repair(constants, donate, fold, calibrate)
        plan = as_plan(model, plan, example_inputs)
        if calibrate is None:
            repaired = fold_channels(model, plan, example_inputs)
        else:
            repaired = reconstruct(model, plan, calibrate, example_inputs, norm=norm)
        small = shrink(repaired.deps, plan, example_inputs, emit=emit, norm=norm, verify=verify)
        report: ShrinkReport = vars(small)["meta"]["fxprune"]
        names, proof = tuple(repaired.tensors), report.verification
        proof = proof and replace(proof, repaired=names)
        report = replace(report, repairs=repaired.repairs, repaired=names, verification=proof)
        put_report(small, report)
        return small
    if isinstance(model, ExportedProgram):
        options = {"emit": emit, "norm": norm, "constants": constants, "verify": verify}
        return _shrunk_program(model, plan, example_inputs, options)
    plan = as_plan(model, plan, example_inputs)
    attempt = _Attempt.of(model, plan, example_inputs, meaning, verify=verify)
    attempt = replace(attempt, donate=donate)
    if emit == "auto":
        kinds: list[Literal["graph", "module"]] = ["graph", "module"]
        is_recorded = attempt.claim.deps.captured_by == "record"
        return _first_possible(attempt, kinds[::-1] if is_recorded else kinds)
    return attempt.shrunk(emit)


def _shrunk_program(
    program: ExportedProgram, given: Any, example_inputs: Any, options: Mapping[str, Any]
) -> ExportedProgram:
    """A program from a program: its graph is shrunk, and exported as the program was."""
    plan = as_plan(program, given, example_inputs)
    inputs = program_inputs(program, example_inputs)
    if inputs is None:  # neither given nor kept in the program
        inputs = materialize(plan.inputs, seed=None)
    deps = plan.analyze(program, inputs)
    values = None if example_inputs is None else inputs
    small = shrink(deps, transferred(plan, deps), values, **options)
    assert isinstance(small, fx.GraphModule)  # there is no module to emit
    result = as_program(small, program)
    if options["verify"]:
        check_program(result, small, materialize(deps.inputs, seed=0) if values is None else values)
    return result


def shrink_again(
    model: Model,
    plan: Plan,
    example_inputs: Any,
    *,
    emit: Literal["graph", "module"],
    meaning: Meaning,
    known: Mapping[str, Tensor],
) -> nn.Module:
    """What `shrink` made before of another instance of the model, but for the values of tensors.

    Args:
        model: the other instance; of its weights nothing is used but shapes and types.
        plan: see `shrink`.
        example_inputs: see `shrink`.
        emit: the kind of the result that was made.
        meaning: of it.
        known: its tensors by name.

    Raises:
        PlanError, InputError, RewriteError, CaptureError, AnalysisError: see `shrink`.
    """
    attempt = _Attempt.of(model, plan, example_inputs, meaning, verify=False)
    return replace(attempt, known=known).shrunk(emit)


def check_making(emit: Any, verify: Any) -> None:
    """Check two options of `shrink`.

    Raises:
        InputError: one of them is not known.
    """
    if emit not in ("graph", "module", "auto"):
        raise InputError(f"emit={emit!r} is not known", hint='pass "graph", "module" or "auto"')
    if not (isinstance(verify, bool) or verify == "quick"):
        raise InputError(f"verify={verify!r} is not known", hint='pass True, "quick" or False')


def _check_donation(model: Model, donate: Any, verify: Any) -> None:
    """Refuse to use weights up that are still needed.

    Raises:
        InputError: `donate` is no switch, or another option needs the original.
    """
    if not isinstance(donate, bool):
        raise InputError(f"donate={shown(donate)} is not known", hint="pass True or False")
    if not donate:
        return
    if isinstance(model, ExportedProgram):
        raise InputError(
            "an ExportedProgram cannot be donated",
            why="it has its tensors for itself",
            hint="pass the module that was exported",
        )
    if verify:
        raise InputError(
            f"donate=True leaves no original to verify against, as verify={verify!r} asks for",
            hint="pass verify=False; to prove the plan, shrink another instance of the model first",
        )


def _check_repair(constants: Constants, donate: bool, fold: Any, calibrate: Any) -> None:
    """Refuse what a repair cannot go along with.

    Raises:
        InputError: an option asks for it.
    """
    option = "calibrate=" if fold is False else "fold=True"
    if fold is not False and fold is not True:
        raise InputError(f"fold={shown(fold)} is not known", hint="pass True or False")
    if fold and calibrate is not None:
        raise InputError(
            "fold=True and calibrate= together are not known",
            why="each gives other weights to what reads removed channels",
            hint="call fxprune.fold first, pass its model to fxprune.reconstruct, and shrink the"
            " model of that",
        )
    if constants == "fold":
        raise InputError(
            f'constants="fold" adds what {option} has repaired already',
            why="the repair makes up for all that removed channels carry, constants too",
            hint="leave one of them out",
        )
    if donate:
        called = "fxprune.fold" if fold else "fxprune.reconstruct"
        raise InputError(
            f"donate=True and {option} together are not known",
            why="the repair needs the original beside the model that is repaired",
            hint=f"call {called} first, and shrink its model with donate=True",
        )


@dataclass(frozen=True)
class _Attempt:
    """All that a result is made of."""

    claim: Claim
    plan: Plan
    values: tuple[Any, ...] | None
    verify: bool | Literal["quick"]
    known: Mapping[str, Tensor] | None = None
    donate: bool = False

    @classmethod
    def of(
        cls,
        model: Model,
        plan: Plan,
        example_inputs: Any,
        meaning: Meaning,
        *,
        verify: bool | Literal["quick"],
    ) -> _Attempt:
        """All that a result is made of, from the arguments of `shrink`."""
        inputs = materialize(plan.inputs, seed=None) if example_inputs is None else example_inputs
        deps = plan.analyze(model, inputs)
        values = None if example_inputs is None else bind(deps.graph_module, example_inputs)
        return cls(Claim(deps, plan.layout(deps), meaning), plan, values, verify)

    def shrunk(self, emit: Literal["graph", "module"]) -> nn.Module:
        """The result of a kind, with its report."""
        with drawable(self.claim.deps, self.plan):
            return self._made(emit)

    def _made(self, emit: Literal["graph", "module"]) -> nn.Module:
        deps, layout, meaning = self.claim.deps, self.claim.layout, self.claim.meaning
        renormalized = _renormalized(self.claim)
        before = self.cost_before(emit)  # while the weights are there
        sizes = sizes_before(deps, deps.graph_module if emit == "graph" else deps.model)
        if emit == "graph":
            refuse_decisions(deps)
            additions = self.additions()
            layout = folded_layout(layout, additions)
            donation = Donation(deps.graph_module) if self.donate else None
            pipeline = shrink_pipeline(meaning.norm, self.known, donation)
            with collector_paused():
                small: nn.Module = pipeline(deps.graph_module, layout).graph_module
        else:
            if meaning.norm == "exact":
                refuse_exact(renormalized)
            refuse_cache_keepers(deps)
            donation = Donation(deps.model, deps.graph_module) if self.donate else None
            small = emit_module(deps, layout, self.values, donation)
            additions = self.additions()
        original = deps.model
        if donation is not None:
            check_foldable(additions, small, layout)  # nothing may be refused from there on
            original = clone_tree(original, to_meta)
            donation.fill(small)
        fold_constants(additions, small, layout)
        unsavable: tuple[Diagnostic, ...] = ()
        if emit == "module":
            unsavable = self.adapted(small, original)
        proof = None
        if self.verify:
            quick = self.verify == "quick"
            proof = verify_claim(self.claim, small, self.values, known_parts=True, quick=quick)
        with collector_paused():
            macs = macs_of(small, deps.trace, layout.shape)
            layers = layers_made(deps, layout, sizes, small, macs)
        report = ShrinkReport(
            before=before,
            after=cost_with(small, macs),
            groups=self.plan.groups,
            verification=proof,
            diagnostics=tuple(
                d for d in deps.diagnostics if emit == "graph" or d not in deps.fixed
            ),
            renormalized=renormalized,
            meaning=meaning,
            emit=emit,
            captured_by=deps.captured_by,
            dropped=deps.dropped,
            inputs=named_values(deps.graph_module, deps.inputs),
            recipe=Recipe.of(deps, self.plan, small),
            unsavable=unsavable,
            layers=layers,
        )
        put_report(small, report)
        return small

    def adapted(self, small: nn.Module, original: nn.Module) -> tuple[Diagnostic, ...]:
        """Let configurations tell the widths of a module, and say why some cannot."""
        arguments = example_arguments(self.claim.deps, self.values)
        try:
            return adapt_configs(small, original, arguments)
        except ResultFailsError:
            if not self.donate:
                raise
        return adapt_configs(small, original, None)  # the original has no weights to go back to

    def additions(self) -> Sequence[Addition]:
        """What biases are to take up of removed channels."""
        if self.claim.meaning.constants == "drop":
            return ()
        if self.known is not None:
            return known_additions(self.claim.deps.graph_module, self.known)
        return additions_to(self.claim, self.values or materialize(self.claim.deps.inputs, seed=0))

    def cost_before(self, emit: Literal["graph", "module"]) -> Cost:
        """The cost of the original; of the user's module if blocks of it were dropped."""
        deps = self.claim.deps
        if emit == "graph" or deps.drop is not None:
            return undropped_cost(deps)
        return cost_with(deps.model, deps.trace.dense_macs)


def _first_possible(attempt: _Attempt, kinds: Sequence[Literal["graph", "module"]]) -> nn.Module:
    """The result of the first kind that works; if none does, an error that tells both."""
    errors: dict[str, FxPruneError] = {}
    for kind in kinds:
        try:
            return attempt.shrunk(kind)
        except (RewriteError, VerificationError, OriginalFailsError) as error:
            errors[kind] = error
    raise _neither(errors["graph"], errors["module"])


def _neither(graph: FxPruneError, module: FxPruneError) -> FxPruneError:
    """One error of both kinds of results. That the other kind could be asked for is left out."""
    if str(graph) == str(module):
        return graph

    def both(told: Callable[[FxPruneError], str]) -> str:
        texts = {"graph": told(graph), "module": told(module)}
        return "; ".join(f"{kind}: {text}" for kind, text in texts.items() if text)

    neither = type(graph)(
        both(lambda error: error.what),
        where=both(lambda error: str(error.where)),
        why=both(lambda error: error.why),
        hint=both(lambda error: _OTHER_KIND.sub("", error.hint)),
    )
    neither.scene = graph.scene
    return neither


def as_plan(model: Model, given: Any, example_inputs: Any, weights: Any = None) -> Plan:
    """What `shrink` takes for a plan, as a Plan; `weights` is as for `fxprune.plan`.

    Raises:
        InputError, PlanError: see `shrink`.
    """
    if not isinstance(given, Mapping):
        return Plan.of(given)
    if example_inputs is None and not isinstance(model, (DependencyGraph, ExportedProgram)):
        raise InputError(
            "example inputs are missing",
            why="a dict of ratios or channels becomes a plan by analyzing the model",
            hint="pass example_inputs=, or make a plan with fxprune.plan first",
        )
    ratios: dict[str, Any] = {n: value for n, value in given.items() if isinstance(value, Real)}
    channels = {name: value for name, value in given.items() if name not in ratios}
    return make(model, example_inputs, ratios=ratios, channels=channels, weights=weights)


def _renormalized(claim: Claim) -> tuple[Diagnostic, ...]:
    found = []
    what = "kept channels" if claim.meaning.norm == "kept" else "original's width"
    for entry in claim.deps.trace.renormalized:
        if claim.layout.kept(entry.axis) is not None:
            place = entry.place.because(f"statistics over the {what}")
            found.append(place.diagnostic())
    return tuple(dict.fromkeys(found))
