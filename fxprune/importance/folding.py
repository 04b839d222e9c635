"""The criterion of channels that are alike: what it costs to merge one into another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fxprune.errors import InputError
from fxprune.importance.criterion import Criterion, Evidence
from fxprune.importance.units import Compared, Sides, compared, stored_values
from fxprune.labels import Axis

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.importance.criterion import Numbers

WIDEST = 1 << 14
"""The most channels of a group that are clustered: the n^2 distances take 2 GiB, of which there are
two and a bit at once, with the products or the costs of pairs."""


@dataclass(frozen=True)
class Folding(Criterion):
    """How much is lost when a channel is merged into one that is like it, without data.

    Channels are compared by the rows that make them, of all layers that do, side by side; the scale
    and shift of a batch norm belong to the rows of the layer that it alone reads. Let r be these
    rows and m the sum of the squares of the weights by which a channel is read. If channel i
    computes what channel c does, outcomes change by at most |r_i - r_c| for inputs of unit norm,
    times the root of m_i. So channels are clustered by Ward's method (Ward, Hierarchical Grouping
    to Optimize an Objective Function, 1963), which merges the two clusters A and B for which

        m_A m_B / (m_A + m_B) * |mean of A - mean of B|^2

    is least: the growth of the sum of m_i |r_i - mean|^2. Clustering weights, with k-means and
    without m, is what Wang et al., Forget the Data and Fine-Tuning! Just Fold the Network to
    Compress, 2025, do. Dropping a channel is merging it into one that computes nothing, so that is
    one of the clusters, with a mean that stays.

    When two clusters become one, the channel stays that has the other members of both nearest; the
    other scores the root of the growth, those of a cluster that is dropped likewise. One clustering
    serves all budgets: what a smaller one keeps, a larger one keeps as well. `fxprune.fold` merges
    what goes into what stays.
    """

    needs = ""
    comparable = False

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """The roots of the growths, group by group.

        Raises:
            InputError: a group has more than 16384 channels, or weights have no data.
        """
        sides, value = Sides.of(deps), stored_values(deps)
        for group in deps.groups:
            if not group.prunable:
                continue
            if group.size > WIDEST:
                raise InputError(
                    f"group {group.name} has {group.size} channels",
                    why=f"distances are computed between all of them, and {WIDEST} are the most",
                    hint="take another criterion for it",
                )
            yield Evidence(Axis(group.size, (group.ids,)), heights(compared(group, sides, value)))


def heights(units: Compared) -> Numbers:
    """The roots of the growths at which channels are merged or dropped, [n]."""
    clusters = _Clusters(units)
    scores = np.zeros(len(units.squares))
    for height, a, b in clusters.merged():
        for lost in clusters.lost(a, b):
            scores[lost] = height
    return np.sqrt(scores)


@dataclass
class _Clusters:
    """Ward's clustering of channels with masses, and of a last one that computes nothing.

    Attributes:
        costs: what it costs to merge two clusters; infinite for those that are gone.
        masses: of clusters; infinite for the last one, so that its mean stays.
        members: the channels of each.
        stays: the channel of each that stays for the others.
    """

    units: Compared
    costs: Numbers = field(init=False)
    masses: Numbers = field(init=False)
    members: list[list[int]] = field(init=False)
    stays: list[int] = field(init=False)

    def __post_init__(self) -> None:
        own = self.units.positive_masses
        n = len(own)
        self.masses = np.append(own, np.inf)
        self.costs = np.full((n + 1, n + 1), np.inf)
        for channel, mass in enumerate(own):
            self.costs[channel, :n] = self.units.distances[channel] * (mass * own / (mass + own))
        self.costs[n, :n] = self.costs[:n, n] = self.units.squares * own
        np.fill_diagonal(self.costs, np.inf)
        self.members = [[channel] for channel in range(n)] + [[]]
        self.stays = [*range(n), -1]

    def merged(self) -> Iterator[tuple[float, int, int]]:
        """Pairs of clusters that become one, with the cost: those inside of others come first.

        The chain of nearest neighbours (Murtagh, A Survey of Recent Advances in Hierarchical
        Clustering Algorithms, 1983) finds Ward's clusters in O(n^2) steps. The first cluster of a
        pair is in the place of both afterwards.
        """
        nothing = len(self.members) - 1
        least = np.zeros(nothing + 1)
        left = set(range(nothing))
        chain: list[int] = []
        while left:
            if not chain:
                chain.append(min(left))
            while True:
                tip = chain[-1]
                near = int(np.argmin(self.costs[tip]))
                if len(chain) > 1 and self.costs[tip, chain[-2]] <= self.costs[tip, near]:
                    break
                chain.append(near)
            a, b = sorted(chain[-2:], reverse=True)
            del chain[-2:]
            least[a] = height = max(self.costs[a, b], least[a], least[b])  # rounding
            least[nothing] = 0.0
            yield float(height), a, b
            self._merge(a, b)
            left.discard(b)

    def _merge(self, a: int, b: int) -> None:
        """The costs of the union, by Lance and Williams; it is in the place of a."""
        if self.masses[a] < np.inf:
            mass = self.masses[a] + self.masses[b]
            with np.errstate(invalid="ignore"):  # the mass of nothing
                union = (
                    (self.masses[a] + self.masses) * self.costs[a]
                    + (self.masses[b] + self.masses) * self.costs[b]
                    - self.masses * self.costs[a, b]
                ) / (mass + self.masses)
            union[-1] = self.costs[a, -1] + self.costs[b, -1] - self.costs[a, b]
            self.costs[a] = self.costs[:, a] = np.maximum(union, 0)
            self.costs[a, a] = np.inf
            self.masses[a] = mass
        self.costs[b] = self.costs[:, b] = np.inf

    def lost(self, a: int, b: int) -> list[int]:
        """The channels that no longer stay once two clusters are one, in the place of a."""
        if self.masses[a] == np.inf:
            return [self.stays[b]]
        both = [*self.members[a], *self.members[b]]
        mine, other = self.stays[a], self.stays[b]
        distances, masses = self.units.distances, self.units.masses[both]
        far = [float(masses @ distances[channel, both]) for channel in (mine, other)]
        self.members[a] = both
        if far[1] < far[0]:
            mine, other = other, mine
        self.stays[a] = mine
        return [other]
