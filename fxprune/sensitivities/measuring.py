"""`sensitivity`: what a model loses with a share of each of its groups."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.analysis import DependencyGraph, Model, analyze
from fxprune.errors import InputError, PlanError, shown
from fxprune.importance import REDUCTIONS, Criterion, Reduction, criterion_of
from fxprune.importance.running import tracked
from fxprune.interruptions import noted
from fxprune.module_trees import fingerprint
from fxprune.planning import Strategy, make_plan
from fxprune.planning.criteria import scores
from fxprune.planning.matching import ModuleMatcher, checked_patterns
from fxprune.planning.selection import Bundle, Pool, Scores, Selection
from fxprune.planning.sensitivity_data import MODES, Mode, Sensitivity
from fxprune.planning.strategies import checked_choice, checked_integer, checked_ratio
from fxprune.sensitivities.records import Record, Removal
from fxprune.sensitivities.runs import (
    Evaluate,
    Evaluation,
    Step,
    Verify,
    check_running,
    checked_pending,
    outcomes,
)

if TYPE_CHECKING:
    from fxprune.groups import Group
    from fxprune.labels import Ids


def sensitivity(
    model: Model,
    example_inputs: Any,
    evaluate: Evaluate,
    *,
    ratios: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
    mode: Mode = "max",
    only: Sequence[str] | None = None,
    criterion: str | Criterion | Callable[[str, torch.Tensor], torch.Tensor] = "l2",
    reduction: Reduction = "sum",
    seed: int = 0,
    heads: bool = True,
    head_dims: bool = False,
    groups: bool = False,
    executor: Executor | None = None,
    pending: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    verify: Verify = "quick",
    progress: bool = True,
) -> Sensitivity:
    """Measure what a model is worth without some channels of one group, for each group and ratio.

    For every group of n channels and every ratio, the floor(n * ratio) channels with the lowest
    scores are removed, of this group alone, and the shrunk model is evaluated. Scores are computed
    once; ratios that remove the same channels are evaluated once.

    The result tells which layers bear pruning, and `fxprune.plan(..., sensitivity=result)` takes
    less from those that do not (Li et al., Pruning Filters for Efficient ConvNets, 2017, section
    3.2; Han et al., Learning both Weights and Connections, 2015, section 3).

    Args:
        model: the model, a GraphModule, or the DependencyGraph that `analyze` made of it. It is not
            changed.
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; may be None
            with a DependencyGraph.
        evaluate: from a shrunk model to a number, such as its accuracy on held-out data. It gets a
            new model each time, which may be changed; that with all channels is one, too. NaN and
            infinite values count as the largest drop.
        ratios: fractions of channels to remove, in [0, 1).
        mode: whether the number is better if it is larger ("max") or smaller ("min").
        only: names or patterns of modules or groups that are measured; by default all groups that
            ratios take from. A group's own name means it, whatever its kind.
        criterion: what channels count; see `fxprune.plan`.
        reduction: see `fxprune.plan`.
        seed: for the "random" criterion.
        heads: whether whole attention heads are measured.
        head_dims: whether dims of heads are.
        groups: whether whole groups of grouped convolutions and norms are.
        executor: what evaluates: any `concurrent.futures.Executor` (threads, processes, that of a
            `dask.distributed` client), which is not shut down; by default this thread. In threads
            only `evaluate` runs at the same time. Other processes get the model, the inputs and
            `evaluate` pickled, with every point.
        pending: how many points the executor has at a time; by default as many as this machine has
            processors. Pass the number of workers of a cluster.
        resume: a JSON file that is written after every point. If it is there, its finished points
            are not evaluated again. It keeps what it has of groups and ratios that are not asked
            for now; the result holds only what is. `evaluate` is not looked at: take another file
            if that has changed.
        verify: how each shrunk model is proved; see `fxprune.shrink`.
        progress: whether a bar on the standard error stream tells how far it is.

    Raises:
        InputError: an option is out of range; `evaluate` fails, returns no number, or no finite one
            for the whole model; it cannot be sent to another process; `resume` is damaged, or of
            another model, other weights or another criterion; the criterion cannot score a group;
            or forward goes by the training mode that the model is in.
        PlanError: nothing is named like that in `only`, or nothing of it can be removed.
        FxPruneError: the executor failed, or `resume` cannot be written.
        CaptureError, AnalysisError: see `fxprune.analyze`.
        RewriteError, VerificationError: see `fxprune.shrink`; names the group and the ratio.
    """
    seed = checked_integer(seed, "seed", 0)
    ranking = criterion_of(criterion, seed)
    made = {
        "criterion": criterion if isinstance(criterion, str) else str(ranking),
        "reduction": checked_choice(reduction, "reduction", REDUCTIONS),
        "seed": seed,
    }
    mode = checked_choice(mode, "mode", MODES)
    asked = _checked_ratios(ratios)
    switches = {"heads": heads, "head_dims": head_dims, "groups": groups}
    _check_switches(switches)
    check_running(evaluate, executor, resume)
    most = checked_pending(pending)
    deps = analyze(model, example_inputs)
    if deps.is_fixed_in_training:
        raise InputError(
            "the model is in training mode, and its forward goes by that: evaluate would get models"
            " that do for good what it does in training",
            why=deps.fixed[-1].what,
            hint="call model.eval() first",
        )
    chosen = _chosen(deps, only, {"channels", *(kind for kind, on in switches.items() if on)})
    base = Sensitivity(0.0, mode, {}, deps.digest, fingerprint(deps.state), made)
    record = Record.of(base, [group.name for group in deps.groups], resume)
    score = scores(deps, ranking, reduction, chosen)
    removals = [removal for group in chosen for removal in _removals(deps, group, score, asked)]
    evaluation = Evaluation(deps, example_inputs, evaluate, verify)
    run = partial(outcomes, evaluation=evaluation, executor=executor, pending=most)
    with noted(lambda: record.told(removals)):
        if not record.begun:
            for _ in run([_whole(deps)], note=lambda _, value: record.begin(value)):
                pass
        record.note(finished := record.find(removals))
        missing = {_step(deps, removal): removal for removal in removals if removal not in finished}
        found = run(missing, note=lambda step, value: record.note({missing[step]: value}))
        bar = tracked(found, "Sensitivity", shown=progress, total=len(missing))
        with closing(found), closing(bar):
            for _ in bar:
                pass
    return record.result(chosen, asked)


def _checked_ratios(ratios: Any) -> list[float]:
    try:
        found = list(ratios)
    except TypeError:
        found = []
    if not found or isinstance(ratios, (str, Mapping)):
        raise InputError(f"ratios is {shown(ratios)}", hint="pass a list such as [0.25, 0.5, 0.75]")
    return sorted({checked_ratio(ratio, "a ratio") for ratio in found})


def _check_switches(switches: Mapping[str, Any]) -> None:
    for name, value in switches.items():
        if not isinstance(value, bool):
            hint = "pass True or False; names of groups go into only="
            raise InputError(f"{name} is {shown(value)}", hint=hint)


def _chosen(deps: DependencyGraph, only: Any, kinds: Container[str]) -> list[Group]:
    """The groups that are measured, in the order of the model."""
    possible = [group for group in deps.groups if group.prunable and group.kind in kinds]
    if only is not None:
        matcher = ModuleMatcher(deps)
        patterns = checked_patterns(only, "only")
        found = {group for each in patterns for group in _named(matcher, each, possible)}
        possible = [group for group in deps.groups if group in found]
    if not possible:
        raise PlanError("there is no group to measure", hint="deps.why('*') tells what pins them")
    return possible


def _named(matcher: ModuleMatcher, pattern: str, possible: Container[Group]) -> list[Group]:
    """The groups that a name or a pattern means and that can be measured."""
    groups = matcher.groups(pattern)
    found = [g for g in groups if g in possible or (g.name == pattern and g.prunable)]
    if not found:
        reasons = dict.fromkeys(
            str(group.pinned or f"{group.name} is of {group.size} {group.kind}") for group in groups
        )
        why = "; ".join(reasons) or "it produces no channels of its own"
        hint = "name what can, or say heads=, head_dims= or groups="
        raise PlanError(f"nothing of {pattern} is measured", why=why, hint=hint)
    return found


def _removals(
    deps: DependencyGraph, group: Group, score: Scores, ratios: Iterable[float]
) -> list[Removal]:
    """What goes of a group by itself, for each ratio; ratios that mean the same together."""
    bundle = Bundle.of([group], Strategy(), score, np.zeros(len(score), dtype=np.bool_))
    selection = Selection(deps, (Pool((bundle,), score),), score)
    found: dict[bytes, tuple[list[float], Ids]] = {}
    for ratio in ratios:
        ids = selection.removed(ratio)
        found.setdefault(ids.tobytes(), ([], ids))[0].append(ratio)
    return [Removal(group, tuple(same), ids) for same, ids in found.values()]


def _step(deps: DependencyGraph, removal: Removal) -> Step:
    name = f"group {removal.group.name} at ratio {removal.ratios[0]:g}"
    return Step(make_plan(deps, removal.ids, {}), name)


def _whole(deps: DependencyGraph) -> Step:
    return Step(make_plan(deps, np.zeros(0, dtype=np.int64), {}), "the whole model")
