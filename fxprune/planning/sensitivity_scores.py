"""From what a model loses with each group to scores that compare between groups.

Measuring what each layer loses by itself, and taking less from those that lose much: Han et al.,
Learning both Weights and Connections for Efficient Neural Networks, 2015, section 3; Li et al.,
Pruning Filters for Efficient ConvNets, 2017, section 3.2. There a person reads the curves; here the
channels of all groups are ranked by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fxprune.errors import InputError, PlanError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.planning.sensitivity_data import Curve, Sensitivity
    from fxprune.planning.strategies import Strategy

Numbers = NDArray[np.float64]
_HUGE = 1e100
"""A drop from here on counts as infinite, so that no sum overflows."""
_TIE = 1e-8
"""What the share counts beside the drop, so that of equal drops the smaller share goes first."""


@dataclass(frozen=True)
class Drops:
    """By how much a model is worse without a share of a group: a curve that never falls.

    Attributes:
        shares: from 0, ascending.
        drops: at these shares, from 0, never descending; infinite ones are at the end.
    """

    shares: Numbers
    drops: Numbers

    @classmethod
    def of(cls, sensitivity: Sensitivity, curve: Curve) -> Drops | None:
        """The drops of a group; None if no channel of it was ever removed."""
        found = {0: 0.0}
        for point in curve.points:
            if point.removed:
                drop = sensitivity.drop(point.value)
                drop = drop if drop < _HUGE else math.inf
                found[point.removed] = max(drop, found.get(point.removed, -math.inf))
        removed = sorted(found)
        if len(removed) == 1:
            return None
        drops = np.maximum.accumulate([found[count] for count in removed])
        return cls(np.array(removed) / curve.size, drops)

    def at(self, share: Numbers, infinite: float) -> Numbers:
        """The drops at some shares in [0, 1].

        Between two measured shares they are interpolated. Beyond the last one the curve goes on
        with its last slope, or with its mean slope if that is steeper; if infinite drops follow,
        all beyond the last finite one counts as infinite, for nobody knows where that begins.

        Args:
            share: the shares.
            infinite: what an infinite drop counts.
        """
        is_finite = np.isfinite(self.drops)
        x, y = self.shares[is_finite], self.drops[is_finite]
        found: Numbers = np.interp(share, x, y)
        if is_finite.all():
            slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), y[-1] / x[-1])
            found += slope * np.maximum(share - x[-1], 0.0)
        else:
            found[share > x[-1]] = infinite
        return found

    @property
    def highest(self) -> float:
        """The largest finite drop that it leads to."""
        return float(self.at(np.append(self.shares, 1.0), 0.0).max())


def by_sensitivity(
    scores: Numbers, groups: Iterable[Group], sensitivity: Sensitivity, kept: NDArray[np.bool_]
) -> Numbers:
    """Scores by which channels of all groups compare: what their group loses until they go.

    Within a group the order stays as it is. The channel that goes as the i-th of n gets the drop at
    the share i/n, of its group alone; of channels with equal drops, that with the lowest share goes
    first. A drop that is infinite counts as twice the largest that any curve leads to.

    Args:
        scores: a number for each id.
        groups: those whose scores are replaced; all were measured.
        sensitivity: what was measured.
        kept: which ids must stay; they go last.
    """
    curves = {group: Drops.of(sensitivity, sensitivity.curves[group.name]) for group in groups}
    known = {group: curve for group, curve in curves.items() if curve is not None}
    largest = max((curve.highest for curve in known.values()), default=0.0) or 1.0
    found = scores.copy()
    for group, curve in known.items():
        order = np.lexsort((scores[group.ids], kept[group.ids]))
        share = np.arange(1, group.size + 1) / group.size
        found[group.ids[order]] = curve.at(share, 2 * largest) + _TIE * largest * share
    return found


def measured(deps: DependencyGraph, sensitivity: Sensitivity) -> set[str]:
    """The names of the groups that a sensitivity tells something of.

    Raises:
        PlanError: it is that of another model.
    """
    sizes = {group.name: group.size for group in deps.groups if group.prunable}
    wrong = [n for n, curve in sensitivity.curves.items() if sizes.get(n) != curve.size]
    if sensitivity.digest != deps.digest or wrong:
        why = "its structure has another digest"
        if wrong:
            here = sizes.get(wrong[0])
            there = f"{sensitivity.curves[wrong[0]].size} channels there"
            why = f"group {wrong[0]} has {there}, {here or 'none that can be removed'} here"
        elif deps.drop is not None:
            why = f"{', '.join(deps.dropped)} of it is dropped here"
        raise PlanError(
            "the sensitivity belongs to another model",
            why=why,
            hint="measure it of this model, or of the DependencyGraph that is planned for",
        )
    known = {n for n, c in sensitivity.curves.items() if Drops.of(sensitivity, c) is not None}
    if not known:
        raise PlanError(
            "the sensitivity tells nothing: no channel of any group was removed",
            hint="measure at larger ratios, or let the run finish some points",
        )
    return known


def checked_with(
    normalize: Any, scope: Any, by: Any, strategies: Iterable[tuple[str, Strategy]]
) -> None:
    """Refuse what contradicts a sensitivity.

    Raises:
        InputError: scores are to be compared in another way, or not at all; or blocks are to go.
    """
    named = {f"strategies[{name!r}]": each.normalize for name, each in strategies}
    for where, how in {"normalize": normalize, **named}.items():
        if how is not None:
            raise InputError(
                f"both sensitivity= and {where} (normalize={shown(how)}) are given",
                why="each says how the scores of different groups compare",
                hint="leave out one of them",
            )
    if scope == "group":
        raise InputError(
            'both sensitivity= and scope="group" are given',
            why="that takes the same share of every group, whatever it loses",
            hint='leave out scope=, or take "global" or "isomorphic"',
        )
    if by == "blocks":
        raise InputError(
            'both sensitivity= and by="blocks" are given',
            why="what was measured holds for the model with all its blocks",
            hint="drop blocks first, measure the sensitivity of what is left, and pass that",
        )


def only_measured(
    wanted: Mapping[Group, Strategy], known: AbstractSet[str], named: AbstractSet[Group]
) -> dict[Group, Strategy]:
    """The groups that ratios may take from, with their strategies.

    Args:
        wanted: groups and strategies, before anything was measured.
        known: the names of those that were measured.
        named: those of which the user said how much goes. If they were not measured, their scores
            compare with no others, and so each is ranked alone.
    """
    found = {}
    for group, strategy in wanted.items():
        if group.name in known:
            found[group] = strategy
        elif group in named:
            found[group] = replace(strategy, scope="group")
    return found
