"""A simple family of removals: the same share of every group, the lowest scores first."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from fxprune import DependencyGraph
from fxprune.importance import L2
from fxprune.labels import Ids
from fxprune.planning.criteria import scores

Scores = NDArray[np.float64]


def l2(deps: DependencyGraph) -> Scores:
    return scores(deps, L2())


def uniform(deps: DependencyGraph, score: Scores, round_to: int = 1) -> Callable[[float], Ids]:
    """At amount 1 every group keeps `round_to` channels."""
    kinds = {"channels", "heads"}
    orders = [
        group.ids[np.argsort(score[group.ids], kind="stable")]
        for group in deps.groups
        if group.prunable and group.kind in kinds
    ]

    def removed(amount: float) -> Ids:
        parts = [np.zeros(0, dtype=np.int64)]
        for order in orders:
            most = max(0, len(order) - round_to)
            parts.append(order[: int(most * amount + 1e-9) // round_to * round_to])
        return np.concatenate(parts)

    return removed


def in_multiples(
    deps: DependencyGraph, score: Scores, round_to: int
) -> Callable[[Ids, Ids], Iterable[Ids]]:
    """Steps of `round_to` channels of one group, the best of them first."""

    def steps(inside: Ids, outside: Ids) -> Iterable[Ids]:
        for group in deps.groups:
            rest = group.ids[np.isin(group.ids, outside) & ~np.isin(group.ids, inside)]
            rest = rest[np.argsort(-score[rest], kind="stable")]
            yield from (rest[k : k + round_to] for k in range(0, len(rest), round_to))

    return steps
