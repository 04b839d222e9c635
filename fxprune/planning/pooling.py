"""From strategies for groups to pools of channels that are ranked together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fxprune.importance import L2, NORMALIZATIONS, criterion_of, normalized
from fxprune.planning.criteria import scores
from fxprune.planning.families import Key, alike, structure
from fxprune.planning.selection import Bundle, Pool, Scores, Selection, count, steps
from fxprune.planning.sensitivity_scores import by_sensitivity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.importance import Criterion, Normalization
    from fxprune.labels import Ids
    from fxprune.planning.sensitivity_data import Sensitivity
    from fxprune.planning.strategies import Strategy

_NONE: Ids = np.zeros(0, dtype=np.int64)


def pooled(
    deps: DependencyGraph,
    wanted: Mapping[Group, Strategy],
    kept: NDArray[np.bool_],
    *,
    seed: int = 0,
    uniform: bool = False,
    sensitivity: Sensitivity | None = None,
    gone: Ids = _NONE,
    multiple: Callable[[Group], int] = lambda group: 1,
) -> Selection:
    """Score the channels of groups, and put together those that are ranked together.

    Args:
        deps: the analysis.
        wanted: how channels of each group are chosen, everything said.
        kept: which ids must stay.
        seed: for criteria that are named "random".
        uniform: whether groups in the same place of repeated blocks lose equally many channels.
        sensitivity: what groups lose; then the scores of those that were measured tell that.
        gone: the ids that an earlier plan has removed: they go first, and count towards what goes.
        multiple: what "host" means for the widths of a group.
    """
    said = wanted  # groups with one strategy are ranked together, whatever "host" means for each
    wanted = {
        group: replace(each, round_to=multiple(group)) if each.round_to == "host" else each
        for group, each in said.items()
    }
    score = _scored(deps, wanted, kept, seed, gone)
    if sensitivity is not None:
        known = [
            g for g, s in wanted.items() if g.name in sensitivity.curves and _loses(g, s, kept)
        ]
        score = by_sensitivity(score, known, sensitivity, kept)
        score[gone] = -np.inf
    together = _uniform(deps, said) if uniform else [[group] for group in wanted]
    bundles = [Bundle.of(groups, wanted[groups[0]], score, kept) for groups in together]
    kinds = {name: type(module).__name__ for name, module in deps.graph_module.named_modules()}
    shapes = deps.shapes
    pools: dict[Key, list[Bundle]] = defaultdict(list)
    for number, bundle in enumerate(bundles):
        scope = bundle.strategy.scope
        among: Key = (number,) if scope == "group" else ()
        if scope == "isomorphic":
            among = structure(kinds, shapes, bundle.groups[0])
        pools[*among, *_key(*vars(said[bundle.groups[0]]).values())].append(bundle)
    return Selection(deps, tuple(Pool(tuple(own), score) for own in pools.values()), score)


def _uniform(deps: DependencyGraph, wanted: Mapping[Group, Strategy]) -> list[list[Group]]:
    """Groups that are to lose equally many channels: alike, and with the same strategy."""
    by_strategy: dict[Key, list[Group]] = defaultdict(list)
    for group, strategy in wanted.items():
        by_strategy[_key(*vars(strategy).values())].append(group)
    return [family for groups in by_strategy.values() for family in alike(groups, deps.model)]


def _scored(
    deps: DependencyGraph,
    wanted: Mapping[Group, Strategy],
    kept: NDArray[np.bool_],
    seed: int,
    gone: Ids,
) -> Scores:
    """The score of every id: by the criterion of its group, if it has one, else by the first.

    That of ids that are gone is -inf, and what others are divided by is not made of them.
    """
    by_criterion: dict[Key, list[Group]] = defaultdict(list)
    for group, strategy in wanted.items():
        if _loses(group, strategy, kept):
            by_criterion[_key(strategy.criterion, strategy.reduction)].append(group)
    total: Scores | None = None
    for groups in by_criterion.values():
        strategy = wanted[groups[0]]
        criterion, reduction = criterion_of(strategy.criterion, seed), strategy.reduction or "sum"
        found = scores(deps, criterion, reduction, groups)
        found[gone] = np.nan
        total = found.copy() if total is None else total
        for how in NORMALIZATIONS:
            own = [g for g in groups if _normalization(wanted[g], criterion) == how]
            ids = np.concatenate([np.zeros(0, dtype=np.int64), *(g.ids for g in own)])
            total[ids] = normalized(found, own, how)[ids]
    if total is None:
        total = scores(deps, L2(), wanted=())
    total[gone] = -np.inf
    return total


def _loses(group: Group, strategy: Strategy, kept: NDArray[np.bool_]) -> bool:
    """Whether a strategy may take channels from a group."""
    possible = steps(group.size, int(kept[group.ids].sum()), strategy)
    if len(possible) == 1:
        return False
    if strategy.ratio is None:
        return True  # a threshold or a target tells
    if strategy.scope != "group":
        return strategy.ratio > 0
    return bool(possible[1] <= count(group.size, strategy.ratio))


def _normalization(strategy: Strategy, criterion: Criterion) -> Normalization:
    """What scores are divided by; by default nothing, unless they would not compare."""
    if strategy.normalize is not None:
        return strategy.normalize
    alone = strategy.scope == "group" or strategy.threshold is not None
    return "none" if alone or criterion.comparable else "mean"


def _key(*values: Any) -> Key:
    """What tells values apart; criteria need not be hashable, nor compare."""
    plain = (str, int, float, type(None))
    return tuple(v if isinstance(v, plain) else id(v) for v in values)
