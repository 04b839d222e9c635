"""Choosing the channels to remove."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fxprune.analysis import Model
from fxprune.cost import undropped_cost
from fxprune.errors import InputError, PlanError, shown
from fxprune.given_weights import weighed, weights_given, with_integers
from fxprune.importance import REDUCTIONS, Criterion, Normalization, Reduction, criterion_of
from fxprune.latency_check import measured_latency
from fxprune.planning.blocks import analyzed_without, drop_to_budget
from fxprune.planning.budgets import Met, checked_target, meet
from fxprune.planning.choice import make_plan
from fxprune.planning.host_widths import Role, group_multiple, host_multiples
from fxprune.planning.latency import OpCost, PredictedLatency, device_of, dtype_of
from fxprune.planning.matching import ModuleMatcher, checked_patterns
from fxprune.planning.plan_data import Plan
from fxprune.planning.pooling import pooled
from fxprune.planning.sensitivity_data import Sensitivity
from fxprune.planning.sensitivity_scores import checked_with, measured, only_measured
from fxprune.planning.strategies import (
    SCOPES,
    Multiple,
    Scope,
    Strategy,
    checked_choice,
    checked_integer,
    checked_ratio,
    multiple_for,
)
from fxprune.size_check import rewritten_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import torch

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.labels import Ids
    from fxprune.planning.selection import Selection


def plan(
    model: Model,
    example_inputs: Any = None,
    ratio: float = 0.0,
    *,
    target: Mapping[str, float] | None = None,
    cost: OpCost | None = None,
    by: Literal["channels", "blocks"] = "channels",
    drop: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    strategies: Mapping[str, Strategy | Mapping[str, Any]] | None = None,
    channels: Mapping[str, Sequence[int]] | None = None,
    keep: Mapping[str, Sequence[int]] | None = None,
    ignore: Sequence[str] = (),
    criterion: str | Criterion | Callable[[str, torch.Tensor], torch.Tensor] = "l2",
    reduction: Reduction = "sum",
    normalize: Normalization | None = None,
    threshold: float | None = None,
    scope: Scope | None = None,
    sensitivity: Sensitivity | str | os.PathLike[str] | None = None,
    round_to: Multiple | Literal["auto"] = "auto",
    min_channels: int = 1,
    max_ratio: float | None = None,
    uniform: bool = False,
    seed: int = 0,
    heads: bool = True,
    head_dims: bool = False,
    groups: bool = False,
    after: Plan | None = None,
    weights: Mapping[str, torch.Tensor] | str | os.PathLike[str] | None = None,
) -> Plan:
    """Choose the channels to remove from a model.

    Of every group of n channels, floor(n * ratio) with the lowest scores go, and at least one
    stays; with `scope="global"`, that share of all channels together. Where an axis is heads by
    head dims, or groups by channels of a group, `heads`, `head_dims` and `groups` say which of them
    ratios take from. Later patterns in `ratios` win over earlier ones, those in `strategies` over
    them, and all of them over what is said for the whole plan; a group that several modules produce
    (a residual stream) follows whichever of them is named.

    Args:
        model: the model, a GraphModule, or the DependencyGraph that `analyze` made of it (which
            saves analyzing it again).
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; not needed
            with a DependencyGraph.
        ratio: fraction of channels to remove, in [0, 1).
        target: instead of a ratio: the shares of the model's cost that may be left, such as
            `{"macs": 0.5}`, of "params", "macs", "bytes" and "latency". The ratio that meets them
            is found; what `ratios` or `strategies` say of some groups holds for these.
        cost: for "latency": from an operator's name and the shapes of the tensors that it takes and
            returns to what it costs; by default it is measured on this machine.
        by: what a target takes. "blocks": whole residual blocks, those with the lowest scores for
            their cost, and channels for what is left to take; for one target, "params" or "macs".
        drop: names of residual blocks that go whole, or patterns (`layer1.*`), which mean the
            blocks among the modules that match; channels are chosen from what is left.
        ratios: module name, pattern (`layer1.*`) or group name -> fraction, for the groups that
            the module produces. A module's name means all below it too.
        strategies: likewise, name or pattern -> Strategy, or a dict of its options, such as
            `{"ratio": 0.3, "criterion": "l1", "scope": "global"}`.
        channels: module name -> output channels to remove, besides those chosen by ratio. All of
            a group may go, and its branch with it, where a model is left without the branch.
        keep: module name -> output channels that stay, whatever they score.
        ignore: names or patterns of modules whose output channels all stay.
        criterion: what channels count: "l2" or "l1" (size of all coupled weights), "lamp",
            "bn_scale", "fpgm", "cosine", "folding" or "random"; an object of
            `fxprune.importance`, such as `Taylor(loader, loss)`; or a function that takes a
            parameter's name and its values and returns what each value counts.
        reduction: what a channel counts, of the positions that carry it: their "sum", "mean" or
            "max", or "first": those of the first parameter that has any.
        normalize: what the scores of a group are divided by, so that those of different groups
            compare: their "mean", their "max", or "none"; "rank" takes the rank in the group, in
            (0, 1]. By default "mean" where groups are ranked together by a criterion that grows
            with the size of a layer ("l1", "l2" ...), else "none".
        threshold: instead of a ratio: the channels with (normalized) scores below it go.
        scope: which groups are ranked together: "group", each alone; "isomorphic", those that are
            built of the same kinds of layers; "global", all that have the same ratio. By default
            "group", or "global" with a sensitivity.
        sensitivity: what `fxprune.sensitivity` found, or the path of its file: less goes from
            groups that lose much. A channel's score is by how much the model is worse once its
            group alone has lost all channels up to it, so a threshold is a drop (of accuracy, say).
            Groups that were not measured lose channels only where `ratios` or `strategies` say how
            many. Measured by another criterion, the curves are no more than a guess.
        round_to: kept widths are rounded up to a multiple of this, where a group is that wide; or
            "host": to what suits the operators that read and write the group, measured on this
            machine (once, which takes some seconds). "auto" is "host" for a target of latency that
            is measured, and 1 for all else: that way a plan is the same on every machine.
        min_channels: how many channels of a group stay at least, where it has that many.
        max_ratio: the largest fraction of a group's channels that may go, in [0, 1].
        uniform: whether groups in the same place of repeated blocks lose the same number of
            channels.
        seed: for the "random" criterion.
        heads: whether ratios take whole attention heads.
        head_dims: whether ratios take dims of heads, the same ones of every head that the model
            couples; the scale of the attention stays the original's.
        groups: whether ratios take whole groups of grouped convolutions and norms.
        after: an earlier plan for the same model. What it removes goes first and counts towards
            ratios and targets, so the new plan removes it too, and as little more as it takes.
        weights: where the values of weights are, if they are not to be read from the model, which
            may be on the meta device: the folder of a checkpoint of safetensors (in one file or
            in shards), of which one tensor after another is read; or a state dict. For criteria of
            weights alone.

    Raises:
        InputError: an option is out of range, or a weight is not finite; or `weights` are broken,
            or of another model.
        PlanError: an unknown module, a channel that does not exist or must stay, a block that
            cannot be dropped, or constraints or a target that cannot be kept; tells the closest
            that can.
        CaptureError, AnalysisError: see `analyze`.
    """
    ratio = checked_ratio(ratio, "ratio")
    seed = checked_integer(seed, "seed", 0)
    share = None if target is None else checked_target(target)
    _refuse_both(ratio, threshold, share, cost)
    base = Strategy(
        ratio=ratio if threshold is None and share is None else None,
        threshold=threshold,
        criterion=criterion_of(criterion, seed),
        reduction=checked_choice(reduction, "reduction", REDUCTIONS),
        normalize=normalize,
        scope=_scope(scope, sensitivity),
        round_to=multiple_for(round_to, share, is_timed=cost is None),
        min_channels=checked_integer(min_channels, "min_channels", 1),
        max_ratio=max_ratio,
    )
    said = _by_name(ratios, strategies)
    curves = _curves(sensitivity, normalize, scope, by, said)
    explicit = _checked_lists(channels, "channels")
    staying = _checked_lists(keep, "keep")
    ignore = checked_patterns(ignore, "ignore")
    drop = checked_patterns(drop, "drop")
    _check_by(by, share, drop)
    switches = {"heads": heads, "head_dims": head_dims, "groups": groups}
    kinds = {"channels", *(kind for kind, on in switches.items() if _checked_switch(on, kind))}
    _checked_switch(uniform, "uniform")
    deps = _analyzed(model, example_inputs, drop, weights)
    matcher = ModuleMatcher(deps)
    for option, named_by in (("keep", staying), ("channels", explicit), ("ignore", ignore)):
        _refuse_gone(matcher, option, named_by)
    wanted = _wanted(matcher, said, base, kinds)
    if by == "blocks" and share:
        counted: Literal["params", "macs"] = "params" if "params" in share else "macs"
        taken, _ = drop_to_budget(
            deps,
            1 - share[counted],
            counted,
            example_inputs,
            criterion=base.criterion,
            keep=[*ignore, *explicit, *staying],
        )
        deps = _analyzed(deps, example_inputs, taken, weights)
        matcher = ModuleMatcher(deps)
        wanted = _wanted(matcher, said, base, kinds, is_checked=True)
    if curves is not None:
        wanted = only_measured(wanted, measured(deps, curves), _told_how_much(matcher, said))
    ignored = {group for pattern in ignore for group in matcher.groups(pattern)}
    still = replace(base, ratio=0.0, threshold=None)  # groups that lose what is named alone
    rest = {group: still for group in deps.groups if group.prunable and group not in wanted}
    wanted = {g: strategy for g, strategy in (wanted | rest).items() if g not in ignored}
    kept = matcher.staying(staying)
    gone = _gone_before(deps, after, kept)
    selection, multiples = _pooled(
        deps, wanted, kept, seed=seed, uniform=uniform, sensitivity=curves, gone=gone
    )
    named = np.union1d(_explicit(matcher, explicit, kept, ignored), gone)
    met = None if share is None else _met(selection, named, share, cost, example_inputs)
    made = {
        "ratio": ratio,
        "ratios": {name: strategy.ratio for name, strategy in said[: len(ratios or ())]},
        "channels": explicit,
        "ignore": ignore,
        "criterion": criterion if isinstance(criterion, str) else str(base.criterion),
        "reduction": reduction,
        "round_to": base.round_to,
        "seed": seed,
        **switches,
    }
    told: dict[str, Any] = {
        "threshold": base.threshold,
        "drop": drop or None,
        "target": share,
        "by": by if by != "channels" else None,
        "reached": None if met is None else dict(met.shares),
        "normalize": normalize,
        "scope": base.scope if base.scope != "group" else None,
        "sensitivity": None if curves is None else curves.told(),
        "multiples": multiples,
        "min_channels": base.min_channels if base.min_channels != 1 else None,
        "max_ratio": base.max_ratio,
        "uniform": uniform or None,
        "keep": staying or None,
        "after": len(gone) or None,
        "strategies": {name: strategy.told() for name, strategy in said[len(ratios or ()) :]},
    }
    made |= {name: value for name, value in told.items() if value not in (None, {})}
    return make_plan(deps, selection.with_named(named) if met is None else met.removed, made)


def _pooled(
    deps: DependencyGraph,
    wanted: Mapping[Group, Strategy],
    kept: NDArray[np.bool_],
    **options: Any,
) -> tuple[Selection, dict[Role, int]]:
    """The channels, ranked; and the multiples that suit this machine, if a strategy asks for it."""
    multiples: dict[Role, int] = {}
    if any(strategy.round_to == "host" for strategy in wanted.values()):
        multiples = host_multiples(device_of(deps), dtype_of(deps))
    multiple = partial(group_multiple, deps.shapes, multiples)
    return pooled(deps, wanted, kept, multiple=multiple, **options), multiples


def _analyzed(
    model: Model,
    example_inputs: Any,
    drop: Sequence[str],
    weights: Any,
) -> DependencyGraph:
    """The analysis of a model without some blocks, and with other weights if there are some."""
    if weights is None:
        return analyzed_without(model, example_inputs, drop)
    values = weights_given(weights)
    model = with_integers(model, values)
    return weighed(analyzed_without(model, example_inputs, drop), values)


def _gone_before(deps: DependencyGraph, after: Plan | None, kept: NDArray[np.bool_]) -> Ids:
    """The ids of the channels that an earlier plan removes."""
    found = [np.zeros(0, dtype=np.int64)]
    if after is None:
        return found[0]
    if not isinstance(after, Plan):
        raise InputError(f"after is {shown(after)}", hint="pass a Plan for the same model")
    after.layout(deps)  # refuses a plan for another model
    for name, entry in after.groups.items():
        ids = deps.group(name).ids[list(entry.removed)]
        if kept[ids].any():
            number = entry.removed[int(np.argmax(kept[ids]))]
            raise PlanError(
                f"channel {number} of {name} is gone by the earlier plan, but keep names it"
            )
        found.append(ids)
    return np.unique(np.concatenate(found))


def _by_name(
    ratios: Mapping[str, float] | None,
    strategies: Mapping[str, Strategy | Mapping[str, Any]] | None,
) -> list[tuple[str, Strategy]]:
    """What is said of some groups, in the order in which it counts."""
    first, then = _checked_names(ratios, "ratios"), _checked_names(strategies, "strategies")
    return [
        *((n, Strategy(ratio=checked_ratio(r, f"ratios[{n!r}]"))) for n, r in first.items()),
        *((n, Strategy.of(value, f"strategies[{n!r}]")) for n, value in then.items()),
    ]


def _wanted(
    matcher: ModuleMatcher,
    said: Sequence[tuple[str, Strategy]],
    base: Strategy,
    kinds: Collection[str],
    *,
    is_checked: bool = False,
) -> dict[Group, Strategy]:
    """How much is to go of every group, and how: what holds for all, changed by what names say.

    Names that mean nothing but what went with dropped blocks are left out. Once names were checked
    with all blocks, the others may mean nothing that can be removed, too.
    """
    groups = [group for group in matcher.deps.groups if group.prunable]
    wanted = {group: base for group in groups if group.kind in kinds}
    for pattern, strategy in said:
        is_gone = not matcher.is_left(pattern) if is_checked else matcher.gone_with(pattern)
        meant = [] if is_gone else matcher.groups(pattern)
        if not (is_gone or is_checked):
            _refuse_unprunable(meant, pattern)
        found = [group for group in meant if group.prunable]
        says_how_much = strategy.ratio is not None or strategy.threshold is not None
        taken = [g for g in found if g in wanted or (g.name == pattern and says_how_much)]
        if found and not taken and strategy.ratio != 0 and not is_checked:
            raise _switched_off(pattern, found)
        for group in taken:
            before = wanted.get(group, base)
            wanted[group] = before.changed_by(strategy, f"what is said for {pattern!r}")
    return wanted


def _told_how_much(matcher: ModuleMatcher, said: Iterable[tuple[str, Strategy]]) -> set[Group]:
    """The groups that are named with a ratio or a threshold."""
    patterns = [name for name, s in said if s.ratio is not None or s.threshold is not None]
    return {g for each in patterns if not matcher.gone_with(each) for g in matcher.groups(each)}


def _curves(sensitivity: Any, *others: Any) -> Sensitivity | None:
    """What groups lose, if that is given; and then that nothing else contradicts it."""
    if sensitivity is None:
        return None
    checked_with(*others)
    return Sensitivity.of(sensitivity)


def _scope(scope: Scope | None, sensitivity: Any) -> Scope:
    """Which groups are ranked together: each alone, unless they were made to compare."""
    if scope is None:
        return "group" if sensitivity is None else "global"
    return checked_choice(scope, "scope", SCOPES)


def _switched_off(pattern: str, groups: Sequence[Group]) -> PlanError:
    """The error for a name that means groups of kinds alone that ratios do not take."""
    kinds = list(dict.fromkeys(group.kind for group in groups))
    names = ", ".join(group.name for group in groups[:3]) + (", ..." if len(groups) > 3 else "")
    switches = " or ".join(f"{kind}=True" for kind in kinds if kind != "copies")
    return PlanError(
        f"what is said for {pattern!r} would hold for nothing",
        why=f"it means {names}, and this plan takes no {' and no '.join(kinds)}",
        hint=f"{f'pass {switches}, or ' if switches else ''}give a group a ratio by its own name",
    )


def _refuse_gone(matcher: ModuleMatcher, option: str, names: Iterable[str]) -> None:
    """Refuse to keep, or to take channels of, what is dropped."""
    for name in names:
        if block := matcher.gone_with(name):
            raise PlanError(
                f"{option} names {name!r}, and block {block} is dropped",
                why="nothing of it is left, so nothing of it can stay, or go by itself",
                hint=f"leave {block} out of drop=, or {name!r} out of {option}=",
            )


def _refuse_unprunable(groups: Sequence[Group], pattern: str) -> None:
    """Refuse a name (not a pattern) that means no group that can lose channels."""
    if not any(g.prunable for g in groups) and not any(mark in pattern for mark in "*?"):
        reasons = dict.fromkeys(str(group.pinned or "it has one channel only") for group in groups)
        why = "; ".join(reasons) or "it produces no channels of its own"
        raise PlanError(f"nothing of {pattern} can be removed", why=why)


def _checked_switch(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} is {shown(value)}", hint="pass True or False")
    return value


def _checked_names(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InputError(
            f"{name} is {shown(value)}", hint="pass a dict with names of modules as keys"
        )
    return value


def _checked_lists(value: Any, name: str) -> dict[str, list[int]]:
    return {
        module: _checked_channels(numbers, f"{name}[{module!r}]")
        for module, numbers in _checked_names(value, name).items()
    }


def _checked_channels(value: Any, name: str) -> list[int]:
    try:
        numbers = list(value)
        if any(isinstance(c, bool) or "bool" in str(getattr(c, "dtype", "")) for c in numbers):
            raise TypeError("a mask")
        return [operator.index(channel) for channel in numbers]
    except TypeError as error:
        raise InputError(
            f"{name} is {shown(value)}",
            hint="pass a list of channel numbers, such as mask.nonzero().flatten().tolist()",
        ) from error


def _refuse_both(
    ratio: float, threshold: float | None, target: Mapping[str, float] | None, cost: Any
) -> None:
    """Refuse what contradicts one another."""
    said = {"ratio": ratio or None, "threshold": threshold, "target": target}
    given = [f"{name}={value}" for name, value in said.items() if value is not None]
    if len(given) > 1:
        raise InputError(
            f"both {given[0]} and {given[1]} are given",
            why="each says how many channels go",
            hint="pass one of them",
        )
    if cost is not None and "latency" not in (target or {}):
        raise InputError(
            "a cost function is given, and no latency as a target",
            hint='pass target={"latency": 0.5}, or leave out cost=',
        )


def _check_by(by: Any, target: Mapping[str, float] | None, drop: Sequence[str]) -> None:
    if checked_choice(by, "by", ("channels", "blocks")) == "blocks":
        if target is None or len(target) != 1 or not target.keys() <= {"params", "macs"}:
            raise InputError(
                'by="blocks" needs a target for params or for macs',
                hint='pass target={"params": 0.5}, say',
            )
        if drop:
            raise InputError(
                'both by="blocks" and drop= are given', hint="the one chooses what the other names"
            )
    if drop and "latency" in (target or {}):
        raise InputError(
            "a latency is a share of that of the whole model, and drop= takes blocks out of it",
            hint="pass a target for macs, or ask for the latency alone",
        )


def _met(
    selection: Selection,
    named: Ids,
    target: Mapping[str, float],
    cost: OpCost | None,
    example_inputs: Any,
) -> Met:
    """The removal that meets a target."""
    deps = selection.deps
    is_timed = "latency" in target
    return meet(
        deps,
        target,
        lambda amount: selection.with_named(named, amount),
        selection.score,
        steps=selection.between,
        latency=PredictedLatency(deps, cost) if is_timed else None,
        measure=measured_latency(deps, example_inputs) if is_timed and cost is None else None,
        weigh=rewritten_bytes(deps) if deps.captured_by != "record" else None,
        dense=undropped_cost(deps) if deps.drop is not None else None,
    )


def _explicit(
    matcher: ModuleMatcher,
    channels: Mapping[str, list[int]],
    kept: NDArray[np.bool_],
    ignored: Iterable[Group],
) -> Ids:
    """The ids of the channels that were named."""
    found = [np.zeros(0, dtype=np.int64)]
    for name, numbers in channels.items():
        ids = matcher.channel_ids(name, numbers)
        both = [group.name for group in ignored if np.isin(ids, group.ids).any()]
        if both:
            raise PlanError(f"channels of {name} are to go, but group {min(both)} is ignored")
        if kept[ids].any():
            number = numbers[int(np.argmax(kept[ids])) % len(numbers)]
            raise PlanError(f"channel {number} of {name} is to go, but keep names it, too")
        found.append(ids)
    return np.unique(np.concatenate(found))
