"""Budgets: the removal that leaves a given share of what the model costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fxprune.errors import InputError, PlanError, shown
from fxprune.planning.candidates import CandidateCost

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.cost import Cost
    from fxprune.labels import Ids

Shares: TypeAlias = dict[str, float]
"""For each kind of cost the share of the dense model's."""
_FIELDS = {"params": "parameters", "macs": "macs", "bytes": "bytes"}
COSTS = (*_FIELDS, "latency")
"""The kinds of cost that a target can name."""
ROUNDS = 5
"""How often a model is measured, and the prediction corrected, before a latency is given up."""
NEAR = 0.95
"""A measured latency of this part of its target, or more, is near enough."""
_MARGIN = 0.98
_FINEST = 2.0**-40


@dataclass(frozen=True)
class Met:
    """A removal that meets a target.

    Attributes:
        removed: the removed ids.
        target: the share that may be left, by kind of cost.
        shares: the share that is left; a latency is the measured one if it was measured.
        predicted: the predicted share of the latency, if it was measured.
    """

    removed: Ids
    target: Mapping[str, float]
    shares: Mapping[str, float]
    predicted: float | None = None


def checked_target(target: Any) -> Shares:
    """A target as a dict of plain numbers.

    Raises:
        InputError: it is not a dict of shares in (0, 1], one or several of them.
    """
    hint = f"pass a dict such as {{'params': 0.5}}; costs are {', '.join(COSTS)}"
    if not isinstance(target, Mapping) or not target:
        raise InputError(f"target is {shown(target)}", hint=hint)
    for name, share in target.items():
        if name not in COSTS:
            raise InputError(f"target names the unknown cost {shown(name)}", hint=hint)
        if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share <= 1:  # type: ignore[operator]  # mypy does not know how Real compares
            raise InputError(
                f"target[{name!r}] is {shown(share)}",
                why="it is the share of the dense model's cost that may be left, in (0, 1]",
                hint="0.5 lets half of it remain",
            )
    return {name: float(share) for name, share in target.items()}


def one_by_one(inside: Ids, outside: Ids) -> list[Ids]:
    """Every id of `outside` that is not in `inside`, alone."""
    rest = np.setdiff1d(outside, inside)
    return np.split(rest, len(rest)) if rest.size else []


def meet(
    deps: DependencyGraph,
    target: Mapping[str, float],
    removed: Callable[[float], Ids],
    score: NDArray[np.float64],
    *,
    steps: Callable[[Ids, Ids], Iterable[Ids]] = one_by_one,
    latency: Callable[[Ids], float] | None = None,
    measure: Callable[[Ids], float] | None = None,
    weigh: Callable[[Ids], float | None] | None = None,
    dense: Cost | None = None,
) -> Met:
    """The smallest removal of a family that meets a target, and as little of it as that takes.

    Between the last member of the family that costs too much and the first one that does not,
    channels are given back in the order of decreasing scores, as long as the target is met. So it
    is met from below, to within the finest step that there is. A measured latency corrects what is
    predicted, some rounds long, until it is at most its target and near it.

    Args:
        deps: the analysis.
        target: see `checked_target`.
        removed: the family: ids to remove, for an amount from 0 to 1; a larger amount removes the
            same ones and more.
        score: how much each id counts.
        steps: from two members of the family, the smaller one first: sets of ids of the larger one
            that can be given back, each whatever becomes of the others.
        latency: what a removal leaves of the latency, as predicted, in any unit.
        measure: what it leaves of the dense model's latency, as measured.
        weigh: what it leaves of the dense model's bytes, with what a rewrite adds; None if there
            is no rewrite.
        dense: what shares are of, if it is not the model that was analyzed.

    Raises:
        InputError: see `checked_target`.
        PlanError: the target cannot be met; tells what can.
    """
    checked = checked_target(target)
    search = _Search(removed, score, steps, _shares(deps, checked, latency, dense))
    within = search.within
    if weigh is not None and "bytes" in checked:
        within = partial(_weighed, search.within, weigh)
    if measure is None or "latency" not in checked:
        return within(checked)
    return _measured(within, checked, measure)


def _shares(
    deps: DependencyGraph,
    target: Shares,
    latency: Callable[[Ids], float] | None,
    dense: Cost | None,
) -> Callable[[Ids], Shares]:
    """What tells which share of every cost that is named a removal leaves."""
    module = deps.model if deps.captured_by == "record" else None  # of which a module is emitted
    cost = CandidateCost(deps, module) if not target.keys() <= {"latency"} else None
    if "latency" not in target:
        latency = None
    elif latency is None:
        raise InputError("a latency is to be met", hint="tell how it is predicted: latency=")
    whole = latency(np.zeros(0, dtype=np.int64)) if latency is not None else 0.0

    def shares(ids: Ids) -> Shares:
        found = {}
        if cost is not None:
            left = cost(ids)
            for name in target.keys() & _FIELDS.keys():
                whole_cost = getattr(dense or cost.dense, _FIELDS[name])
                found[name] = getattr(left, _FIELDS[name]) / whole_cost if whole_cost else 1.0
        if latency is not None:
            found["latency"] = latency(ids) / whole if whole else 1.0
        return {name: found[name] for name in target}

    return shares


@dataclass(frozen=True)
class _Search:
    """A family of removals, and what each costs."""

    removed: Callable[[float], Ids]
    score: NDArray[np.float64]
    steps: Callable[[Ids, Ids], Iterable[Ids]]
    shares: Callable[[Ids], Shares]

    def within(self, target: Shares) -> Met:
        """The removal that meets a target."""
        inside, outside = self.removed(0.0), self.removed(1.0)
        if self._excess(inside, target):
            if self._excess(outside, target):
                raise _unreachable(target, self.shares(outside))
            inside, outside = self._bracket(inside, outside, target)
            outside = self._given_back(inside, outside, target)
        else:
            outside = inside
        return Met(outside, target, self.shares(outside))

    def _excess(self, ids: Ids, target: Shares) -> bool:
        """Whether anything costs more than it may."""
        return any(share > target[name] for name, share in self.shares(ids).items())

    def _bracket(self, inside: Ids, outside: Ids, target: Shares) -> tuple[Ids, Ids]:
        """The last member of the family that costs too much, and the first that does not."""
        low, high = 0.0, 1.0
        while len(outside) - len(inside) > 1 and high - low > _FINEST:
            middle = (low + high) / 2
            ids = self.removed(middle)
            if self._excess(ids, target):
                low, inside = middle, ids
            else:
                high, outside = middle, ids
        return inside, outside

    def _given_back(self, inside: Ids, outside: Ids, target: Shares) -> Ids:
        """The larger of two removals without what need not go, the best first."""
        gone = np.zeros(len(self.score), dtype=np.bool_)
        gone[outside] = True
        units = list(self.steps(inside, outside))
        for unit in sorted(units, key=lambda unit: -float(self.score[unit].sum())):
            gone[unit] = False
            if self._excess(np.flatnonzero(gone), target):
                gone[unit] = True
        return np.flatnonzero(gone)


def _weighed(
    within: Callable[[Shares], Met], weigh: Callable[[Ids], float | None], target: Shares
) -> Met:
    """The removal that leaves at most its target of the bytes, with what a rewrite adds.

    What it adds depends on the removal, so more goes until both together are few enough.
    """
    goal = aim = target["bytes"]
    heavy: Shares = {}
    while True:
        try:
            found = within({**target, "bytes": aim})
        except PlanError:
            if not heavy:
                raise
            raise _unreachable(target, heavy) from None
        share = weigh(found.removed)
        if share is None:
            return replace(found, target=target)
        if share <= goal:
            return replace(found, target=target, shares={**found.shares, "bytes": share})
        heavy = {**found.shares, "bytes": share}
        added = share - found.shares["bytes"]
        aim = min(goal - added, math.nextafter(found.shares["bytes"], 0.0))


def _measured(
    within: Callable[[Shares], Met], target: Shares, measure: Callable[[Ids], float]
) -> Met:
    """The removal that leaves most of the latency, of those that were measured to meet it."""
    goal = aim = target["latency"]
    tried: list[tuple[float, Met]] = []
    for _ in range(ROUNDS):
        try:
            found = within({**target, "latency": aim})
        except PlanError:
            if not tried:
                raise
            aim = (aim + tried[-1][0]) / 2
            continue
        if any(np.array_equal(found.removed, other.removed) for _, other in tried):
            break
        share = measure(found.removed)
        shares = {**found.shares, "latency": share}
        met = replace(found, target=target, shares=shares, predicted=found.shares["latency"])
        tried.append((aim, met))
        if goal * NEAR <= share <= goal:
            break
        aim = _corrected(goal, tried)
    met_by = [met for _, met in tried if met.shares["latency"] <= goal]
    if not met_by:
        raise _too_slow(goal, [met for _, met in tried])
    return max(met_by, key=lambda met: met.shares["latency"])


def _corrected(goal: float, tried: Sequence[tuple[float, Met]]) -> float:
    """The prediction to aim at next: between those that were too fast and too slow, if any were.

    Else the error of the last one is taken for a factor, and twice as often at every round: where
    the latency follows the prediction by steps, a small correction changes nothing.
    """
    slow = [aim for aim, met in tried if met.shares["latency"] > goal]
    fast = [aim for aim, met in tried if met.shares["latency"] <= goal]
    if slow and fast:
        return (min(slow) + max(fast)) / 2
    aim, met = tried[-1]
    factor = goal / met.shares["latency"] * (_MARGIN if slow else 1)
    return min(1.0, aim * math.pow(factor, 2 ** (len(tried) - 1)))


def _unreachable(target: Shares, least: Shares) -> PlanError:
    over = [name for name, share in least.items() if share > target[name]]
    return PlanError(
        f"the target {', '.join(f'{name} {target[name]:g}' for name in over)} cannot be met",
        why="; ".join(
            f"{name} can go down to {math.ceil(least[name] * 1e4) / 1e4:g} of the model's"
            for name in over
        ),
        hint="raise the target, or let more be removed (ignore=, keep=, max_ratio=, min_channels=,"
        " round_to=, head_dims=, groups=)",
    )


def _too_slow(goal: float, tried: Iterable[Met]) -> PlanError:
    figures = [f"{m.shares['latency']:.3f} (predicted {m.predicted:.3f})" for m in tried]
    return PlanError(
        f"a latency of {goal:g} of the dense model's is not met",
        why=f"measured on the whole model: {', '.join(figures)}",
        hint="raise the target, free the machine of other work, or set a target for macs",
    )
