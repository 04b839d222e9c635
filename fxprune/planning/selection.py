"""Choosing channels by their scores.

Channels go in units. A unit is what a group loses at once: one channel, or as many as the next
multiple of `round_to` is away; where groups are to stay uniform, those of each of them. Units are
ranked in pools; from each pool the units with the lowest scores go. What a larger share takes
includes what a smaller one takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from fxprune.errors import PlanError

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.labels import Ids
    from fxprune.planning.strategies import Strategy

Scores = NDArray[np.float64]
_LIMITS = ("round_to", "min_channels", "max_ratio")


def count(size: int, ratio: float) -> int:
    """How many of some channels a ratio means."""
    return math.floor(size * ratio + 1e-9)


def multiple_of(strategy: Strategy) -> int:
    """What kept widths are multiples of; "host" was replaced by what it means for a group."""
    return strategy.round_to if isinstance(strategy.round_to, int) else 1


def steps(size: int, kept: int, strategy: Strategy) -> NDArray[np.int64]:
    """How many channels a group may lose, in ascending order, from 0.

    Args:
        size: of the group.
        kept: how many of its channels must stay.
        strategy: what it says of widths; its multiple is known.
    """
    multiple = multiple_of(strategy)
    least = max(strategy.min_channels or 1, kept)
    if strategy.max_ratio is not None:
        least = max(least, size - count(size, strategy.max_ratio))
    widths = np.arange(size // multiple * multiple, least - 1, -multiple)
    return np.union1d([0], size - widths)


@dataclass(frozen=True)
class Bundle:
    """Groups of one size that lose the same number of channels; one group, unless `uniform`.

    Attributes:
        groups: the groups.
        strategy: how their channels are chosen.
        orders: for each group, the ids of the channels that may go, those to go first in front.
        steps: how many channels each of them may lose, in ascending order, from 0.
    """

    groups: tuple[Group, ...]
    strategy: Strategy
    orders: tuple[Ids, ...]
    steps: NDArray[np.int64]

    @classmethod
    def of(
        cls, groups: Sequence[Group], strategy: Strategy, score: Scores, keep: NDArray[np.bool_]
    ) -> Bundle:
        """Groups of one size, for which one strategy holds.

        Args:
            groups: the groups.
            strategy: how their channels are chosen.
            score: the score of every id.
            keep: which ids must stay.
        """
        free = [group.ids[~keep[group.ids]] for group in groups]
        orders = tuple(ids[np.argsort(score[ids], kind="stable")] for ids in free)
        kept = max(int(keep[group.ids].sum()) for group in groups)
        return cls(tuple(groups), strategy, orders, steps(groups[0].size, kept, strategy))

    def for_named(self) -> Bundle:
        """The same for channels that are named: multiples hold where a group is that wide."""
        size = self.groups[0].size
        if size >= multiple_of(self.strategy):
            return self
        strategy = replace(self.strategy, round_to=1)
        kept = size - min(map(len, self.orders))
        return replace(self, strategy=strategy, steps=steps(size, kept, strategy))

    @property
    def size(self) -> int:
        """Number of channels of all groups together."""
        return sum(group.size for group in self.groups)

    @property
    def capacity(self) -> int:
        """How many of them may go."""
        return int(self.steps[-1]) * len(self.groups)

    @property
    def ids(self) -> Ids:
        """The channels that may go, unit by unit."""
        taken: Ids = np.stack([order[: self.steps[-1]] for order in self.orders]).T.reshape(-1)
        return taken

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many channels each unit has."""
        return np.diff(self.steps) * len(self.groups)

    def given_back(self, gone: NDArray[np.bool_], score: Scores) -> Ids:
        """The removed channels that must stay for the groups to have a width that they may have.

        Args:
            gone: which ids are removed.
            score: the score of every id; those with the highest are given back.
        """
        lost = [group.ids[gone[group.ids]] for group in self.groups]
        fewest = min(map(len, lost))
        step = self.steps[self.steps <= fewest].max()
        return np.concatenate([i[np.argsort(score[i], kind="stable")][step:] for i in lost])

    def besides(self, least: int, gone: NDArray[np.bool_]) -> Ids:
        """The channels that go as well where each group loses so many, for a width to be allowed.

        Args:
            least: how many channels of each group go at least.
            gone: which ids are removed.
        """
        step = next((int(step) for step in self.steps if step >= least), 0)
        missing = [max(0, step - int(gone[group.ids].sum())) for group in self.groups]
        rest = [order[~gone[order]] for order in self.orders]
        return np.concatenate([ids[:count] for ids, count in zip(rest, missing, strict=True)])

    def units(self, inside: Ids, gone: NDArray[np.bool_], score: Scores) -> Iterator[Ids]:
        """The units that are gone beside a smaller removal, of which each can stay instead.

        The first one of all, which makes a width a multiple, can only if no other is gone.

        Args:
            inside: the smaller removal.
            gone: which ids are removed beside it.
            score: the score of every id.
        """
        lost = [group.ids[gone[group.ids]] for group in self.groups]
        orders = [ids[np.argsort(score[ids], kind="stable")] for ids in lost]
        before = int(np.isin(self.groups[0].ids, inside).sum())
        ends = self.steps[self.steps >= before] - before
        ends = ends[ends <= min(map(len, lost))]
        sizes = np.diff(ends)
        first = int(len(sizes) > 1 and sizes[0] < sizes[1])
        for start, end in pairwise(ends[first:]):
            yield np.concatenate([order[start:end] for order in orders])

    @property
    def may_go(self) -> bool:
        """Whether the groups may lose all channels, where that is asked for."""
        most, least = self.strategy.max_ratio, self.strategy.min_channels
        return (least or 1) == 1 and (most is None or most == 1)

    def refuse(self, counts: Sequence[int]) -> NoReturn:
        """The error for channels that were named, so many of each group.

        Raises:
            PlanError: always.
        """
        most = max(counts)
        group, size = self.groups[counts.index(most)], self.groups[0].size
        nearest = {int(self.steps[self.steps <= most].max()), *self.steps[self.steps > most][:1]}
        others = [other.name for other in self.groups if other is not group]
        equally = f", and as many of {', '.join(others)} (uniform)" if others else ""
        said = {name: getattr(self.strategy, name) for name in _LIMITS}
        limits = [f"{name}={value}" for name, value in said.items() if value not in (None, 1)]
        raise PlanError(
            f"{most} of the {size} channels of group {group.name} are to go",
            why="" if others else f"its width would not be as asked for: {', '.join(limits)}",
            hint=f"name {' or '.join(map(str, sorted(nearest)))} of them{equally}",
        )


@dataclass(frozen=True)
class Pool:
    """Bundles whose units are ranked together; one strategy holds for them."""

    bundles: tuple[Bundle, ...]
    score: Scores

    def __post_init__(self) -> None:
        most, asked = sum(b.capacity for b in self.bundles), count(self.size, self.ratio)
        if asked > most and self.strategy.scope != "group":
            names = [group.name for bundle in self.bundles for group in bundle.groups]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise PlanError(
                f"ratio {self.ratio:g} of {self.size} channels cannot go",
                where=f"groups {', '.join(names[:3])}{more}",
                why=f"at most {most} may: every group keeps a channel, and what min_channels,"
                " max_ratio, round_to and keep say",
                hint=f"the closest ratio is {math.floor(most / self.size * 1e4) / 1e4:g}",
            )

    @property
    def strategy(self) -> Strategy:
        """What holds for all of them."""
        return self.bundles[0].strategy

    @property
    def ratio(self) -> float:
        """The share of channels that goes; 0 if a threshold tells which."""
        return self.strategy.ratio or 0.0

    @property
    def size(self) -> int:
        """Number of channels."""
        return sum(bundle.size for bundle in self.bundles)

    @cached_property
    def ranked(self) -> tuple[Ids, NDArray[np.int64]]:
        """The channels that may go, unit by unit, lowest mean score first; and where units end."""
        ids = np.concatenate([bundle.ids for bundle in self.bundles])
        sizes = np.concatenate([bundle.sizes for bundle in self.bundles])
        if not len(ids):
            return ids, sizes
        starts = np.cumsum(sizes) - sizes
        order = np.argsort(np.add.reduceat(self.score[ids], starts) / sizes, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return ids[np.argsort(np.repeat(place, sizes), kind="stable")], np.cumsum(sizes[order])

    def taken(self, ratio: float) -> Ids:
        """The units with the lowest scores that together are at most this share of the pool."""
        ids, ends = self.ranked
        fitting = ends[ends <= count(self.size, ratio)]
        return ids[: fitting[-1]] if len(fitting) else ids[:0]

    def below(self, threshold: float) -> Ids:
        """The units of which every channel scores below a threshold."""
        ids, ends = self.ranked
        if not len(ids):
            return ids
        starts = np.concatenate([[0], ends[:-1]])
        highest = np.maximum.reduceat(self.score[ids], starts)
        return ids[np.repeat(highest < threshold, ends - starts)]

    @property
    def is_open(self) -> bool:
        """Whether the strategy leaves to a target how much goes."""
        return self.strategy.ratio is None and self.strategy.threshold is None

    def chosen(self, amount: float) -> Ids:
        """What goes, by what the strategy says, or at this amount if it is open."""
        if self.strategy.threshold is not None:
            return self.below(self.strategy.threshold)
        return self.taken(amount if self.is_open else self.ratio)


@dataclass(frozen=True)
class Selection:
    """All pools of a model.

    Attributes:
        deps: the analysis.
        pools: what is ranked together.
        score: the score of every id.
    """

    deps: DependencyGraph
    pools: tuple[Pool, ...]
    score: Scores

    def removed(self, amount: float = 0.0) -> Ids:
        """The ids that go, by what the strategies say.

        Args:
            amount: the share of channels that goes from pools that leave it open, in [0, 1]. At 1
                as many go as may.
        """
        return self._possible(pool.chosen(amount) for pool in self.pools)

    def between(self, inside: Ids, outside: Ids) -> list[Ids]:
        """The units of a larger removal that can be given back, each by itself.

        Args:
            inside: the smaller removal.
            outside: the larger one.
        """
        gone = np.zeros(len(self.score), dtype=np.bool_)
        gone[outside] = True
        gone[inside] = False
        bundles = [bundle for pool in self.pools if pool.is_open for bundle in pool.bundles]
        return [unit for b in bundles for unit in b.units(inside, gone, self.score)]

    def with_named(self, named: Ids, amount: float = 0.0) -> Ids:
        """The ids that go, with those that were named.

        Where these break a width that is to be a multiple, or uniform, others stay for them; from
        groups that leave open how much goes, others go with them.

        Raises:
            PlanError: they alone do; tells how many of a group may go. Or ratios take the rest.
        """
        gone = np.zeros(len(self.score), dtype=np.bool_)
        gone[self.removed(amount)] = gone[named] = True
        first = self.score.copy()
        first[named] = -np.inf
        is_named = np.isin(np.arange(len(gone)), named)
        bundles = [(b.for_named(), pool.is_open) for pool in self.pools for b in pool.bundles]
        for bundle, is_open in bundles:
            counts = [int(is_named[group.ids].sum()) for group in bundle.groups]
            is_whole = min(counts) == bundle.groups[0].size and bundle.may_go
            if is_whole or not any(counts):
                continue  # whether a model is left without whole groups is decided elsewhere
            if is_open:
                gone[bundle.besides(max(counts), gone)] = True
            back = bundle.given_back(gone, first)
            if is_named[back].any():
                bundle.refuse(counts)
            gone[back] = False
        if len(named):
            self._check_some_left(gone, is_named)
        return np.flatnonzero(gone)

    def _check_some_left(self, gone: NDArray[np.bool_], named: NDArray[np.bool_]) -> None:
        """Only channels that were named may go to the last one."""
        for vectors in self._emptied(gone):
            if not np.logical_or.reduce([named[v] for v in vectors]).all():
                names = [g.name for g in self.deps.groups if np.isin(g.ids, vectors).any()]
                raise PlanError(
                    f"all positions of an axis of {', '.join(names)} would be removed",
                    why="ratios take those that `channels` leaves",
                    hint="leave at least one, or name all of them in `channels`",
                )

    def _possible(self, taken: Iterable[Ids]) -> Ids:
        """Those of some ids that can go without an axis losing all its positions.

        Where a channel is given back for that, widths that are multiples or uniform may take more.
        """
        gone = np.zeros(len(self.score), dtype=np.bool_)
        for ids in taken:
            gone[ids] = True
        while self._leave_some(gone):
            for pool in self.pools:
                for bundle in pool.bundles:
                    gone[bundle.given_back(gone, self.score)] = False
        return np.flatnonzero(gone)

    @cached_property
    def _axes(self) -> Sequence[Sequence[Ids]]:
        """The vectors of every axis, each combination once."""
        leaves = self.deps.trace.labels.leaves
        found = [leaves(axis) for axis in self.deps.trace.all_axes]
        return list({tuple(v.tobytes() for v in vectors): vectors for vectors in found}.values())

    def _emptied(self, gone: NDArray[np.bool_]) -> Iterator[Sequence[Ids]]:
        """The vectors of the axes that lose all positions, as `gone` is when each is reached."""
        for vectors in self._axes:
            if vectors and np.logical_or.reduce([gone[v] for v in vectors]).all():
                yield vectors

    def _leave_some(self, gone: NDArray[np.bool_]) -> bool:
        """Give the best channel back to every axis that would lose all; whether there was one.

        A group can be split over several axes (the halves of a `chunk`), and one of them can hold
        only channels with low scores.
        """
        found = False
        for vectors in self._emptied(gone):
            best = int(np.argmax(np.sum([self.score[v] for v in vectors], axis=0)))
            for vector in vectors:
                gone[vector[best]] = False
            found = True
        return found
