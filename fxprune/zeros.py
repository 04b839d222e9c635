"""Plans of what is zero already: channels that are constant, or that nothing reads.

One run of the original on unknown inputs (`fxprune/reads.py`) tells what reads what, and whatever
must stay keeps what it reads. So the plan is the largest there is: a channel goes although another
reads it, if that one goes as well. Then the machinery that folds constants is asked: channels that
it refuses stay.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.analysis import Model, analyze
from fxprune.comparison import Claim
from fxprune.constants import additions_to, constants_of, fold_constants, folded_layout
from fxprune.differences import difference
from fxprune.errors import FxPruneError, PlanError, RewriteError, VerificationError
from fxprune.inputs import bind, materialize
from fxprune.meaning import Meaning
from fxprune.modes import mode_of
from fxprune.module_trees import eval_clone, named_state
from fxprune.passes import shrink_pipeline
from fxprune.planning import Layout
from fxprune.planning.choice import make_plan
from fxprune.planning.matching import ModuleMatcher, checked_patterns
from fxprune.reads import ReadsMode, spread
from fxprune.reference import QuietMode, put_state
from fxprune.stepping import Stepper
from fxprune.unknowns import run_on_unknown, unknowable
from fxprune.values import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fxprune.analysis import DependencyGraph
    from fxprune.labels import Ids
    from fxprune.planning import Plan
    from fxprune.precision import Precision
    from fxprune.reads import Mask

LOSSLESS = Meaning(norm="exact", constants="fold")
_KINDS = ("channels", "groups", "heads", "head_dims")
_NOISE = 1e-6


def plan_of_zeros(model: Model, example_inputs: Any = None, *, ignore: Sequence[str] = ()) -> Plan:
    """See `Plan.from_masks`."""
    ignore = checked_patterns(ignore, "ignore")
    deps = analyze(model, example_inputs)
    given = example_inputs is not None and deps is not model
    values = bind(deps.graph_module, example_inputs) if given else materialize(deps.inputs, seed=0)
    if why := unknowable(deps, values):
        raise PlanError("it cannot be told which channels are dead", why=why)
    reads = run_on_unknown(deps, values, ReadsMode)
    candidates = _candidates(deps, ignore)
    ids, kept = _dead(deps, values, reads, candidates)
    if ids.size:
        _check(Claim(deps, Layout(deps, ids), LOSSLESS), reads.precision)
    made = {"from": "masks", "ignore": ignore, **({"kept": kept} if kept else {})}
    return make_plan(deps, ids, made)


def _candidates(deps: DependencyGraph, ignore: Sequence[str]) -> Mask:
    """Which ids may go at all."""
    matcher = ModuleMatcher(deps)
    ignored = {group.name for pattern in ignore for group in matcher.groups(pattern)}
    found = np.zeros(len(deps.trace.labels), dtype=np.bool_)
    for group in deps.groups:
        if group.prunable and group.kind in _KINDS and group.name not in ignored:
            found[group.ids] = True
    return found


def _dead(
    deps: DependencyGraph, values: Sequence[Any], reads: ReadsMode, candidates: Mask
) -> tuple[Ids, dict[str, str]]:
    """The ids that can go without a trace, and why some groups that are dead keep a channel.

    1. What varies with the inputs stays if anything that stays reads it, beginning with what is no
       candidate. What reads only in order to make a constant makes the same of anything else.
    2. A constant stays if a sum or statistics see it that no bias can take it from.
    3. A constant that is refused by what folds constants stays, and so does one channel of each
       group whose branch cannot go. These do not vary with the inputs, wherever they count, so
       they keep no other.
    """
    kept: dict[str, str] = {}
    stays = spread(reads.varying, ~candidates)
    while True:
        stays = spread(reads.constants, stays)
        gone = candidates & ~stays
        back, why = _stuck(deps, gone, partial(_plan_refusal, deps))
        if not back.size:
            back = _refused(deps, values, gone)
        if not back.size:
            back, why = _stuck(deps, gone, partial(_build_refusal, deps, values))
        if not back.size:
            return np.flatnonzero(gone), kept
        kept |= why
        stays[back] = True


def _stuck(
    deps: DependencyGraph, gone: Mask, refusal: Callable[[Mask], str]
) -> tuple[Ids, dict[str, str]]:
    """A channel of each group and axis that cannot lose all, and why, by group.

    Groups that cannot go alone, with a channel of every other; all if there are none such.
    """
    all_back = _given_back(deps, gone)
    if not all_back.size or not (why := refusal(gone)):
        return all_back[:0], {}
    emptied = [group for group in deps.groups if gone[group.ids].all()]
    told = {}
    for group in emptied:
        alone = gone.copy()
        alone[all_back] = False
        alone[group.ids] = True
        if reason := refusal(alone):
            told[group.name] = reason
    if not told:
        return all_back, {group.name: why for group in emptied}
    return np.array([deps.group(name).ids[0] for name in told], dtype=np.int64), told


def _plan_refusal(deps: DependencyGraph, gone: Mask) -> str:
    """Why no plan may take all of these; nothing if it may."""
    try:
        Layout(deps, np.flatnonzero(gone))
    except PlanError as error:
        return _told(error)
    return ""


def _build_refusal(deps: DependencyGraph, values: Sequence[Any], gone: Mask) -> str:
    """Why no graph can be had without these; nothing if it can."""
    try:
        layout = Layout(deps, np.flatnonzero(gone))
        additions = additions_to(Claim(deps, layout, LOSSLESS), values)
        layout = folded_layout(layout, additions)
        small = shrink_pipeline(LOSSLESS.norm)(deps.graph_module, layout).graph_module
        fold_constants(additions, small, layout)
    except (PlanError, RewriteError) as error:
        return _told(error)
    return ""


def _told(error: FxPruneError) -> str:
    return ": ".join(filter(None, [error.what, error.why]))


def _given_back(deps: DependencyGraph, gone: Mask) -> Ids:
    """The first channel of every group and axis that would lose all."""
    back = [group.ids[:1] for group in deps.groups if gone[group.ids].all()]
    for axis in deps.trace.all_axes:
        vectors = deps.trace.labels.leaves(axis)
        if vectors and np.logical_or.reduce([gone[vector] for vector in vectors]).all():
            back += [vector[:1] for vector in vectors]
    return np.concatenate([*back, np.zeros(0, dtype=np.int64)])


def _refused(deps: DependencyGraph, values: Sequence[Any], gone: Mask) -> Ids:
    """The ids of which constants cannot be folded where these go."""
    if not gone.any():
        return np.zeros(0, dtype=np.int64)
    claim = Claim(deps, Layout(deps, np.flatnonzero(gone)), LOSSLESS)
    refusals, _ = constants_of(claim, values)
    ids = np.array(sorted(frozenset[int]().union(*(r.ids for r in refusals))), dtype=np.int64)
    ids = ids[gone[ids]]
    return np.flatnonzero(gone) if refusals and not ids.size else ids


def _check(claim: Claim, precision: Precision) -> None:
    """Run the original with and without what is to go; both return the same."""
    deps, values = claim.deps, materialize(claim.deps.inputs, seed=0)
    labels = deps.trace.labels.copy()
    masked = mode_of(
        claim.meaning,
        labels,
        lambda axis: claim.layout.removed_positions(axis, labels),
        precision.widening(),
        constant_rows=claim.constant_rows,
    )
    outputs = []
    for mode in (QuietMode(precision.widening()), masked):
        original = eval_clone(deps.graph_module, precision.cast)
        put_state(named_state(original), deps.trace)
        inputs = list(mapped(precision.cast, values))
        with torch.no_grad():
            outputs.append(tensors(Stepper("the original", original, inputs, mode).run()))
    for whole, without in zip(*outputs, strict=True):
        if difference(whole, without)[1] > _NOISE:
            raise VerificationError(
                "channels that were taken for dead are not",
                why="without them the model computes something else",
                hint="please report it: it is a defect of fxprune or of a custom rule",
            )
