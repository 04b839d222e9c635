"""Scores of a model's channels by what is left of the model now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fxprune.errors import InputError
from fxprune.importance import Criterion, Evidence
from fxprune.labels import Axis
from fxprune.planning.criteria import check_values

if TYPE_CHECKING:
    from fxprune.analysis import DependencyGraph
    from fxprune.importance.criterion import Numbers
    from fxprune.labels import Ids
    from fxprune.progress.optimizers import Kept


_UNKNOWN, _SEVERAL = -1, -2
"""What stands for an id that is not known, and for one that would be several."""


class OfCurrent(Criterion):
    """A criterion for the channels of an original that looks at a smaller model made of it.

    What the criterion says of positions of the smaller model holds for the channels of the original
    that stand there; channels that are gone count 0.

    Args:
        criterion: what looks at the smaller model.
        name: how it was given.
        current: the analysis of the smaller model.
        kept: which positions of the original's tensors it has.
        still: the ids of the original's channels of which nothing need be said: those that are
            gone, and the last of each group.
    """

    def __init__(
        self, criterion: Criterion, name: str, current: DependencyGraph, kept: Kept, still: Ids
    ) -> None:
        self._criterion = criterion
        self._name = name
        self._current = current
        self._kept = kept
        self._still = still
        self.needs = criterion.needs
        self.comparable = criterion.comparable
        self.joint = criterion.joint

    def __str__(self) -> str:
        return self._name

    def finished(self, scores: Numbers) -> Numbers:
        """What the criterion makes of what was added up."""
        return self._criterion.finished(scores)

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """What the criterion says of the smaller model, for the original's channels.

        Raises:
            InputError: it speaks of channels that cannot be told in the original, or a weight of
                the smaller model is not finite.
        """
        check_values(self._current)
        translation = _Translation(deps, self._current, self._kept)
        for piece in self._criterion.evidence(self._current):
            yield Evidence(translation.axis(piece.axis), piece.values)
        yield Evidence(Axis(len(self._still), (self._still,)), np.zeros(len(self._still)))


class _Translation:
    """From axes of a smaller model to axes with channels of the original.

    1. The axis of a parameter has the channels that the original has there, at what stays.
    2. For any other axis channels are translated one by one: those that stand in the same label
       vector at the same position of a parameter are the same, and, where an axis has fewer vectors
       than the original's (one head is left of several), those that stand at the same positions of
       all parameters.
    """

    def __init__(self, original: DependencyGraph, current: DependencyGraph, kept: Kept) -> None:
        self._labels = current.trace.labels
        self._known: dict[int, Axis] = {}
        self._ids = np.full(len(self._labels), _UNKNOWN)
        pairs = []
        for name, axes in current.trace.axes.items():
            theirs = original.trace.axes.get(name, ())
            if len(theirs) != len(axes):
                continue
            for dim, (axis, there) in enumerate(zip(axes, theirs, strict=True)):
                positions = kept.get(name, {}).get(dim, np.arange(there.size))
                vectors = tuple(v[positions] for v in original.trace.labels.leaves(there))
                self._known[id(axis)] = Axis(len(positions), vectors)
                pairs.append((self._labels.leaves(axis), vectors))
        for here, there_ in pairs:
            if len(here) == len(there_):
                self._learn(here, there_)
        self._compare(pairs, len(original.trace.labels))
        self._ids[0] = 0

    def _learn(self, here: tuple[Ids, ...], there: tuple[Ids, ...]) -> None:
        """Which channels are the same; those that would be several are coupled otherwise."""
        for ours, theirs in zip(here, there, strict=True):
            is_new = self._ids[ours] == _UNKNOWN
            self._ids[ours[is_new]] = theirs[is_new]
            self._ids[ours[self._ids[ours] != theirs]] = _SEVERAL

    def _compare(
        self, pairs: Sequence[tuple[tuple[Ids, ...], tuple[Ids, ...]]], count: int
    ) -> None:
        """Channels that are not known yet are those that stand at the same positions."""
        here = _signatures([ours for ours, _ in pairs], len(self._ids))
        there = _signatures([theirs for _, theirs in pairs], count)
        found, first, counts = np.unique(there, return_index=True, return_counts=True)
        place = np.minimum(np.searchsorted(found, here), len(found) - 1)
        fits = (found[place] == here) & (counts[place] == 1) & (here > 0) & (self._ids == _UNKNOWN)
        self._ids[fits] = first[place[fits]]

    def axis(self, axis: Axis) -> Axis:
        """The axis with channels of the original."""
        if id(axis) in self._known:
            return self._known[id(axis)]
        vectors = tuple(self._ids[vector] for vector in self._labels.leaves(axis))
        if any((vector < 0).any() for vector in vectors):
            raise InputError(
                "the criterion speaks of channels that are coupled otherwise in the smaller model",
                hint="take a criterion of weights, or ignore the modules that produce them",
            )
        return Axis(axis.size, vectors)


def _signatures(axes: Sequence[tuple[Ids, ...]], count: int) -> NDArray[np.uint64]:
    """For each id a number that tells at which positions it stands, of axes one after another."""
    found = np.zeros(count, dtype=np.uint64)
    for number, vectors in enumerate(axes):
        if not vectors:
            continue
        size = len(vectors[0])
        numbers = np.random.default_rng(number).integers(1 << 63, size=size, dtype=np.uint64)
        pairs = np.concatenate([v * size + np.arange(size) for v in vectors])
        ids, positions = np.divmod(np.unique(pairs), size)
        np.add.at(found, ids, numbers[positions])
    return found
