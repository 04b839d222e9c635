"""Choosing the channels to remove."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fxprune.analysis import DependencyGraph, Model
from fxprune.errors import InputError, PlanError, shown
from fxprune.importance import REDUCTIONS, Criterion, Reduction, criterion_of
from fxprune.planning.blocks import analyzed_without
from fxprune.planning.criteria import scores
from fxprune.planning.layout import Layout, all_axes
from fxprune.planning.matching import ModuleMatcher
from fxprune.planning.plan_data import GroupPlan, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from fxprune.groups import Group
    from fxprune.labels import Ids


def plan(
    model: Model,
    example_inputs: Any = None,
    ratio: float = 0.0,
    *,
    drop: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    channels: Mapping[str, Sequence[int]] | None = None,
    ignore: Sequence[str] = (),
    criterion: str | Criterion | Callable[[str, torch.Tensor], torch.Tensor] = "l2",
    reduction: Reduction = "sum",
    round_to: int = 1,
    seed: int = 0,
    heads: bool = True,
    head_dims: bool = False,
    groups: bool = False,
) -> Plan:
    """Choose the channels to remove from a model.

    Of every group of n channels, floor(n * ratio) with the lowest scores go, and at least one
    stays. Where an axis is heads by head dims, or groups by channels of a group, `heads`,
    `head_dims` and `groups` say which of them ratios take from. Later patterns in `ratios` win
    over earlier ones, and all of them over `ratio`; a group that several modules produce (a
    residual stream) follows whichever of them is named.

    Args:
        model: the model, a GraphModule, or the DependencyGraph that `analyze` made of it (which
            saves analyzing it again).
        example_inputs: a tensor, a tuple of arguments, or a dict of keyword arguments; not needed
            with a DependencyGraph.
        ratio: fraction of channels to remove from every group, in [0, 1).
        drop: names of residual blocks that go whole, or patterns (`layer1.*`), which mean the
            blocks among the modules that match; channels are chosen from what is left.
        ratios: module name, pattern (`layer1.*`) or group name -> fraction, for the groups that
            the module produces. A module's name means all below it too.
        channels: module name -> output channels to remove, besides those chosen by ratio.
        ignore: names or patterns of modules whose output channels all stay.
        criterion: what channels count: "l2" or "l1" (size of all coupled weights), "lamp",
            "bn_scale", "fpgm", "cosine" or "random"; an object of `fxprune.importance`, such as
            `Taylor(loader, loss)`; or a function that takes a parameter's name and its values and
            returns what each value counts.
        reduction: what a channel counts, of the positions that carry it: their "sum", "mean" or
            "max", or "first": those of the first parameter that has any.
        round_to: kept widths are rounded up to a multiple of this, where a group is that wide.
        seed: for the "random" criterion.
        heads: whether ratios take whole attention heads.
        head_dims: whether ratios take dims of heads, the same ones of every head that the model
            couples; the scale of the attention stays the original's.
        groups: whether ratios take whole groups of grouped convolutions and norms.

    Raises:
        InputError: a ratio, criterion, `round_to` or switch is out of range, or a weight is not
            finite.
        PlanError: an unknown module, a channel that does not exist or must stay, or a block that
            cannot be dropped.
        CaptureError, AnalysisError: see `analyze`.
    """
    ratio = _checked_ratio(ratio, "ratio")
    named = _checked_names(ratios, "ratios")
    given = {name: _checked_ratio(r, f"ratios[{name!r}]") for name, r in named.items()}
    explicit = {
        name: _checked_channels(ids, name)
        for name, ids in _checked_names(channels, "channels").items()
    }
    if isinstance(ignore, str) or not all(isinstance(name, str) for name in _items(ignore)):
        raise InputError(f"ignore is {shown(ignore)}", hint="pass a list of names or patterns")
    _check_integer(round_to, "round_to", 1)
    _check_integer(seed, "seed", 0)
    switches = {"heads": heads, "head_dims": head_dims, "groups": groups}
    kinds = {"channels", *(kind for kind, chosen in switches.items() if _is_chosen(chosen, kind))}
    measure = criterion_of(criterion, seed)
    if reduction not in REDUCTIONS:
        raise InputError(
            f"unknown reduction {shown(reduction)}", hint=f"take one of {', '.join(REDUCTIONS)}"
        )
    deps = analyzed_without(model, example_inputs, drop)
    matcher = ModuleMatcher(deps)
    wanted = {g.name: ratio for g in deps.groups if g.prunable and g.kind in kinds}
    for pattern, value in given.items():
        for group in _prunable(matcher.groups(pattern), pattern):
            if group.name in wanted or group.name == pattern:
                wanted[group.name] = value
    ignored = {group.name for pattern in ignore for group in matcher.groups(pattern)}
    for name in ignored:
        wanted.pop(name, None)
    chosen = [g for g in deps.groups if g.name in wanted and _loss(g, wanted[g.name], round_to)]
    score = scores(deps, measure, seed, reduction, chosen)
    removed = [_lowest(group, wanted[group.name], round_to, score) for group in chosen]
    removed = [_leave_some(deps, np.concatenate([*removed, np.zeros(0, dtype=np.int64)]), score)]
    for name, numbers in explicit.items():
        ids = matcher.channel_ids(name, numbers)
        both = [g.name for g in deps.groups if g.name in ignored and np.isin(ids, g.ids).any()]
        if both:
            raise PlanError(f"channels of {name} are to go, but group {both[0]} is ignored")
        removed.append(ids)
    made = {
        "ratio": ratio,
        **({"drop": list(drop)} if drop else {}),
        "ratios": given,
        "channels": explicit,
        "ignore": list(ignore),
        "criterion": criterion if isinstance(criterion, str) else str(measure),
        "reduction": reduction,
        "round_to": round_to,
        "seed": seed,
        **switches,
    }
    return make_plan(deps, np.unique(np.concatenate(removed)), made)


def make_plan(deps: DependencyGraph, removed: Ids, made: Mapping[str, Any]) -> Plan:
    """The plan that removes the given ids.

    Raises:
        PlanError: nothing would be left of some group or axis.
    """
    groups = {}
    is_removed = np.zeros(len(deps.trace.labels), dtype=np.bool_)
    is_removed[removed] = True
    for group in deps.groups:
        if group.pinned is not None:
            continue
        gone = tuple(np.flatnonzero(is_removed[group.ids]).tolist())
        if len(gone) == group.size:
            raise PlanError(
                f"all {group.size} channels of group {group.name} would be removed",
                hint="keep at least one",
            )
        groups[group.name] = GroupPlan(group.size, group.kind, gone)
    return Plan(
        groups=groups,
        slices=Layout(deps, removed).slices,
        shapes=deps.shapes,
        inputs=deps.inputs,
        digest=deps.digest,
        made=made,
        dropped=deps.dropped,
    )


def _prunable(groups: Sequence[Group], pattern: str) -> list[Group]:
    """The groups that can lose channels; a name (not a pattern) that means none is an error."""
    found = [group for group in groups if group.prunable]
    if not found and not any(mark in pattern for mark in "*?"):
        reasons = dict.fromkeys(str(group.pinned or "it has one channel only") for group in groups)
        why = "; ".join(reasons) or "it produces no channels of its own"
        raise PlanError(f"nothing of {pattern} can be removed", why=why)
    return found


def _check_integer(value: Any, name: str, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 64:
        raise InputError(
            f"{name} is {shown(value)}",
            why=f"it must be an integer of at least {least}, of at most 64 bits",
        )


def _is_chosen(value: Any, name: str) -> bool:
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


def _items(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) else [None]


def _checked_channels(value: Any, name: str) -> list[int]:
    try:
        if any(isinstance(c, bool) or "bool" in str(getattr(c, "dtype", "")) for c in value):
            raise TypeError("a mask")
        return [operator.index(channel) for channel in value]
    except TypeError as error:
        raise InputError(
            f"channels[{name!r}] is {shown(value)}",
            hint="pass a list of channel numbers, such as mask.nonzero().flatten().tolist()",
        ) from error


def _checked_ratio(ratio: Any, name: str) -> float:
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= ratio < 1:  # type: ignore[operator]  # mypy does not know how Real compares
        raise InputError(
            f"{name} is {shown(ratio)}",
            why="a ratio is the fraction of channels to remove, in [0, 1)",
            hint="0.5 removes half of the channels of every group",
        )
    return float(ratio)


def _lowest(group: Group, ratio: float, round_to: int, score: NDArray[np.float64]) -> Ids:
    """The ids of the channels with the lowest scores that a ratio takes from a group."""
    order = np.argsort(score[group.ids], kind="stable")
    return group.ids[order[: _loss(group, ratio, round_to)]]


def _loss(group: Group, ratio: float, round_to: int) -> int:
    """How many channels a ratio takes from a group."""
    keep = max(1, group.size - math.floor(group.size * ratio + 1e-9))
    return group.size - min(group.size, math.ceil(keep / round_to) * round_to)


def _leave_some(deps: DependencyGraph, removed: Ids, score: NDArray[np.float64]) -> Ids:
    """Give the best channel back to every axis that would lose all its positions.

    A group can be split over several axes (the halves of a `chunk`), and one of them can hold only
    channels with low scores.
    """
    labels = deps.trace.labels
    gone = np.zeros(len(labels), dtype=np.bool_)
    gone[removed] = True
    for axis in all_axes(deps):
        vectors = labels.leaves(axis)
        if not vectors or not np.logical_or.reduce([gone[v] for v in vectors]).all():
            continue
        best = int(np.argmax(np.sum([score[v] for v in vectors], axis=0)))
        for vector in vectors:
            gone[vector[best]] = False
    return np.flatnonzero(gone)
