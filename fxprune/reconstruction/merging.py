"""Channels that are merged into others: who into whom, and what becomes of weights."""

from __future__ import annotations

from dataclasses import dataclass
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
        shares: how much of the mean of its cluster each is; 1 for one that is alone.
    """

    group: Group
    into: NDArray[np.int64]
    shares: NDArray[np.float64]

    @classmethod
    def nearest(
        cls,
        group: Group,
        units: Compared,
        removed: NDArray[np.bool_],
        able: NDArray[np.bool_],
    ) -> Merges:
        """Merge each removed channel into the kept one that is most like it.

        Channel j goes into k, the nearest, if that costs less than to drop j: if the square of the
        distance of their rows is less than that of the norm of row j.

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
            nearer = distances[np.arange(len(gone)), best] < units.squares[gone]
            into[gone[nearer]] = kept[best[nearer]]
        return cls.of(group, units, into)

    @classmethod
    def of(cls, group: Group, units: Compared, into: NDArray[np.int64]) -> Merges:
        """With the shares of means: as the squares of the weights by which channels are read."""
        masses = np.maximum(units.masses, 1e-12 * units.masses.max())
        return cls(group, into, masses / np.bincount(into, masses, group.size)[into])

    @property
    def merged(self) -> NDArray[np.bool_]:
        """Which channels are merged into others."""
        moved: NDArray[np.bool_] = self.into != np.arange(self.group.size)
        return moved

    def without(self, failed: NDArray[np.bool_], units: Compared) -> Merges:
        """The same, where some channels are dropped instead."""
        into = np.where(failed, np.arange(self.group.size), self.into)
        return Merges.of(self.group, units, into)

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
        if sides.reads(member) or member.parameter in taken_up:
            continue
        into, shares = merges.along(member)
        changed.append(member.parameter)
        if normed is not None and normed.rows == member.dim:
            changed += _merge_normed(member, normed, into, shares, change)
        else:
            _average(change(member.parameter), member.dim, into, shares)
    return tuple(changed)


def _average(
    tensor: torch.Tensor, dim: int, into: torch.Tensor, shares: torch.Tensor
) -> None:
    rows = tensor.movedim(dim, 0)
    into, shares = into.to(rows.device), shares.to(rows.device)
    weighted = rows * shares.view(-1, *[1] * (rows.dim() - 1))
    rows.copy_(torch.zeros_like(rows).index_add_(0, into, weighted)[into])


def _merge_normed(
    member: Member,
    normed: Normed,
    into: torch.Tensor,
    shares: torch.Tensor,
    change: Callable[[str], torch.Tensor],
) -> list[str]:
    """The same for a layer with a batch norm, of which scales and variances stay.

    What the two compute together is averaged: rows, biases and running means by what they are
    scaled by, as the sums that go through the batch norm then have the mean that is stored.
    """
    norm = normed.norm
    together = torch.bincount(into, minlength=len(into))[into] > 1
    scale = normed.scale(change)
    dead = (scale == 0) & together.to(scale.device)
    if norm.weight:  # a scale of 0 can yield no other channel
        change(norm.weight)[dead] = (change(norm.variance)[dead] + norm.eps).sqrt()
    before, now = (
        torch.where(together.to(scale.device), each, 1.0) for each in (scale, normed.scale(change))
    )
    for name, dim in ((member.parameter, member.dim), (normed.bias, 0), (norm.mean, 0)):
        if name:
            rows = change(name).movedim(dim, 0)
            shape = (-1, *[1] * (rows.dim() - 1))
            rows *= before.view(shape)
            _average(rows, 0, into, shares)
            rows /= now.view(shape)
    if norm.bias:
        _average(change(norm.bias), 0, into, shares)
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
