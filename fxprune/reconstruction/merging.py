"""Channels that are merged into others: who into whom, and what becomes of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.importance.units import Compared, Normed, Sides, places

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fxprune.groups import Group, Member


@dataclass(frozen=True)
class Merges:
    """What becomes of the channels of a group.

    Attributes:
        group: the channels.
        into: for each the one that it is merged into: itself if it stays, or is dropped.
        masses: the squares of the weights by which they are read, all positive.
    """

    group: Group
    into: NDArray[np.int64]
    masses: NDArray[np.float64]

    @classmethod
    def nearest(
        cls,
        group: Group,
        units: Compared,
        removed: NDArray[np.bool_],
        able: NDArray[np.bool_],
    ) -> Merges:
        """Merge each removed channel into the kept one that is most like it.

        Let r be rows, and m what channels are read with. To merge j into k, the nearest, costs
        m_j m_k / (m_j + m_k) * |r_j - r_k|^2, as both become their mean with shares like m; to drop
        it costs m_j |r_j|^2. What costs less is done.

        Args:
            group: the channels.
            units: what they are made by.
            removed: which of them go.
            able: which can be merged at all.
        """
        into = np.arange(group.size)
        gone, kept = np.flatnonzero(removed & able), np.flatnonzero(~removed & able)
        if gone.size and kept.size:
            distances = units.distances[np.ix_(gone, kept)]
            best = distances.argmin(1)
            near, masses = kept[best], units.positive_masses
            cost = distances[np.arange(len(gone)), best] * masses[near]
            worth = cost < units.squares[gone] * (masses[gone] + masses[near])
            into[gone[worth]] = near[worth]
        return cls(group, into, units.positive_masses)

    @property
    def shares(self) -> NDArray[np.float64]:
        """How much of the mean of its cluster each is, like its mass; 1 for one that is alone."""
        sums = np.bincount(self.into, self.masses, self.group.size)
        shares: NDArray[np.float64] = self.masses / sums[self.into]
        return shares

    @property
    def merged(self) -> NDArray[np.bool_]:
        """Which channels are merged into others."""
        moved: NDArray[np.bool_] = self.into != np.arange(self.group.size)
        return moved

    def without(self, failed: NDArray[np.bool_]) -> Merges:
        """The same, where some channels are dropped instead."""
        return replace(self, into=np.where(failed, np.arange(self.group.size), self.into))

    def along(self, member: Member) -> tuple[torch.Tensor, torch.Tensor]:
        """Where each position of a parameter axis goes, and its share of the mean."""
        into = np.arange(len(member.channels))
        shares = np.ones(len(into))
        table = places(member, self.group.size)
        there = table >= 0
        into[table[there]] = table[self.into][there]
        shares[table[there]] = np.repeat(self.shares[:, None], table.shape[1], 1)[there]
        return torch.from_numpy(into), torch.from_numpy(shares)


def merge_makers(
    merges: Merges, sides: Sides, change: Callable[[str], torch.Tensor]
) -> tuple[str, ...]:
    """Let channels of a cluster be made alike: by the mean of what makes them.

    Rows of weights are as long afterwards as those of the cluster are in the mean, for a mean is
    shorter, and what it makes varies less.

    Args:
        merges: who goes with whom.
        sides: which side tensors are on.
        change: the stored tensor of a name, in double precision, to be changed.

    Returns:
        The names of the tensors that were changed.
    """
    taken_up, changed = sides.taken_up(), []
    for member in merges.group.members:
        normed = sides.normed.get(member.parameter)
        if not sides.makes(member) or member.parameter in taken_up:
            continue
        into, shares = merges.along(member)
        changed.append(member.parameter)
        if normed is not None and normed.rows == member.dim:
            changed += _merge_normed(member, normed, _Clusters(into, shares), change)
        else:
            rows = change(member.parameter).movedim(member.dim, 0)
            clusters = _Clusters(into, shares).on(rows)
            mean = clusters.mean(rows)
            if rows.dim() > 1:
                mean = clusters.times(mean, clusters.growth(rows, mean))
            rows.copy_(mean)
    return tuple(changed)


@dataclass(frozen=True)
class _Clusters:
    """Positions of an axis that become alike.

    Attributes:
        into: for each the one that stands for its cluster, [n].
        shares: how much of the mean each is, [n].
    """

    into: torch.Tensor
    shares: torch.Tensor

    def on(self, other: torch.Tensor) -> _Clusters:
        """The same on the device of a tensor."""
        return _Clusters(self.into.to(other.device), self.shares.to(other.device))

    @property
    def joined(self) -> torch.Tensor:
        """Which positions are not alone, [n]."""
        return torch.bincount(self.into, minlength=len(self.into))[self.into] > 1

    def times(self, rows: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """Rows [n, ...] by a factor for each [n]."""
        return rows * factors.view(-1, *[1] * (rows.dim() - 1))

    def mean(self, rows: torch.Tensor) -> torch.Tensor:
        """At each position the mean of its cluster, [n, ...]."""
        weighted = self.times(rows, self.shares)
        return torch.zeros_like(rows).index_add_(0, self.into, weighted)[self.into]

    def growth(self, rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        """The factors by which means are as long as their rows are in the mean, [n]."""
        norms, length = (each.abs().square().flatten(1).sum(1).sqrt() for each in (rows, mean))
        factors = self.mean(norms) / length
        return torch.where(self.joined & (length > 0), factors, 1.0)


def _merge_normed(
    member: Member,
    normed: Normed,
    clusters: _Clusters,
    change: Callable[[str], torch.Tensor],
) -> list[str]:
    """The same for a layer with a batch norm, of which scales and variances stay.

    What the two compute together is averaged: rows, biases and running means by what they are
    scaled by, as the sums that go through the batch norm then have the mean that is stored.
    """
    norm = normed.norm
    scale = normed.scale(change)
    clusters = clusters.on(scale)
    joined = clusters.joined
    if norm.weight:  # a scale of 0 can yield no other channel
        dead = (scale == 0) & joined
        change(norm.weight)[dead] = (change(norm.variance)[dead] + norm.eps).sqrt()
    before, now = (torch.where(joined, each, 1.0) for each in (scale, normed.scale(change)))
    rows = clusters.times(change(member.parameter).movedim(member.dim, 0), before)
    mean = clusters.mean(rows)
    growth = clusters.growth(rows, mean) / now
    change(member.parameter).movedim(member.dim, 0).copy_(clusters.times(mean, growth))
    for name in filter(None, (normed.bias, norm.mean)):
        change(name).copy_(clusters.mean(change(name) * before) * growth)
    if norm.bias:
        change(norm.bias).copy_(clusters.mean(change(norm.bias)))
    return [name for name in normed.names if name != norm.variance]


def merge_readers(
    merges: Merges, sides: Sides, change: Callable[[str], torch.Tensor]
) -> tuple[str, ...]:
    """Let what reads a channel that goes read the one that it goes into as well.

    Args:
        merges: who goes with whom.
        sides: which side tensors are on.
        change: the stored tensor of a name, in double precision, to be changed.

    Returns:
        The names of the tensors that were changed.
    """
    changed = []
    for member in merges.group.members:
        if sides.reads(member):
            into, _ = merges.along(member)
            rows = change(member.parameter).movedim(member.dim, 0)
            rows.copy_(torch.zeros_like(rows).index_add_(0, into.to(rows.device), rows))
            changed.append(member.parameter)
    return tuple(changed)
