"""A criterion by how well the channels that stay can stand for the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from fxprune.errors import InputError, shown
from fxprune.importance.criterion import Criterion, Evidence, parameters_of
from fxprune.importance.elimination import Reader, eliminated
from fxprune.importance.processes import jointly, jointly_summed
from fxprune.importance.running import collected, finite, first, tracked
from fxprune.labels import Axis
from fxprune.readings.moments import Covariance, penalty
from fxprune.readings.products import ON_ITS_OWN, Read, ReadingMode
from fxprune.readings.runs import Copy, Run, none, other_ways, uses_of
from fxprune.values import copied

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from fxprune.analysis import DependencyGraph
    from fxprune.groups import Group
    from fxprune.importance.criterion import Numbers
    from fxprune.labels import Ids, LabelAlgebra

_OTHER_INPUTS = (
    "tell what the model takes of a batch (by default the first item of a tuple or list, or all of"
    " it): ReconstructionError(batches, inputs=lambda batch: ...)"
)
MOST = 1 << 30
"""Bytes that second moments may take at once. Where there are more, the model runs several times
over all batches, each time for some of its groups; one group is never split."""


@dataclass(frozen=True)
class ReconstructionError(Criterion):
    """How much readers of a channel are wrong without it, when they make the best of the others.

    Channels of a group are taken out one after another, always the one without which the readers of
    those that are left, with their weights fitted to the data anew, are wrong by the least; its
    score is by how much. So of two channels that carry the same one counts nothing, and the other
    counts for both. That is what `fxprune.reconstruct` and `shrink(calibrate=...)` repair, hence
    the criterion for a plan that will be repaired. After Luo et al., ThiNet, 2017, section 3.2
    (greedy choice by the error of the next layer), with all weights of the reader refitted at each
    step, as in the optimal brain surgeon (Hassibi and Stork, 1993; Kurtic et al., ZipLM, 2023).

    Errors are shares of the second moment of what a reader computes, about its mean if a bias or a
    batch norm takes up constants; those of several readers are added. While channels of a group are
    taken out all others are there. What cannot be refitted (a product of queries and keys, a
    transposed convolution) counts the share that the channel has of the squares of what it reads.

    With `torch.distributed`, every process passes its own batches, and all get the scores of all.

    Attributes:
        batches: a data loader, or any other iterable; without labels, some hundred samples do. What
            the model takes of all of them is in memory at once.
        ridge: the penalty on what is added to weights, see `fxprune.reconstruct`.
        inputs: from a batch to what the model takes (a tensor, a tuple or a dict); by default the
            first item of a tuple or list, or the batch itself.
        progress: whether a bar is shown on the standard error stream (of the first process).

    Raises:
        InputError: the ridge is not a positive number.
    """

    batches: Iterable[Any]
    ridge: float | None = None
    inputs: Callable[[Any], Any] = first
    progress: bool = True

    needs = "an operator that sums over its channels"
    joint = True

    def __post_init__(self) -> None:
        if self.ridge is not None and not _is_positive(self.ridge):
            raise InputError(
                f"the ridge is {shown(self.ridge)}", why="it must be a positive number"
            )

    def __str__(self) -> str:
        return "ReconstructionError"

    def evidence(self, deps: DependencyGraph) -> Iterator[Evidence]:
        """The scores of all groups that can be pruned and that something reads.

        Raises:
            InputError: there are no batches, the model does not take them, or values are not
                finite; batches take different ways through the model; or it failed in another
                process.
        """
        parameters_of(deps)  # refuses those without data
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            scoring, _ = jointly(deps, lambda: self._begun(deps), lambda _: None)
            yield from scoring.scores()

    def _begun(self, deps: DependencyGraph) -> _Scoring:
        batches = collected(deps, self.batches, self.inputs, "reconstruction errors", _OTHER_INPUTS)
        return _Scoring(deps, batches, self.ridge, self.progress)


_Moments: TypeAlias = dict[int, list[Covariance]]
"""What was measured at spots, by their numbers, for each group of a convolution."""


@dataclass(frozen=True)
class _Spot:
    """One place where channels are read.

    Attributes:
        read: what it is, without values.
        is_refitted: whether its weight can be fitted anew.
        about_mean: whether constants are taken up.
    """

    read: Read
    is_refitted: bool
    about_mean: bool

    @property
    def memory(self) -> int:
        """Bytes of its moments."""
        size = self.read.axis.size
        return 8 * (size * size // self.read.groups if self.is_refitted else size)

    def moments(self) -> list[Covariance]:
        """Nothing yet: of what it reads, for each group of a convolution."""
        size, x = self.read.axis.size // self.read.groups, self.read.x
        groups = range(self.read.groups)
        return [Covariance(size, x.device, x.dtype, is_whole=self.is_refitted) for _ in groups]

    def carried(self, ids: Ids) -> NDArray[np.bool_]:
        """Which positions carry which of some ids, [ids, positions]."""
        found: NDArray[np.bool_] = np.zeros((len(ids), self.read.axis.size), dtype=np.bool_)
        order = np.argsort(ids)
        for vector in self.read.axis.vectors:
            at = np.clip(np.searchsorted(ids, vector, sorter=order), 0, len(ids) - 1)
            positions = np.flatnonzero(ids[order[at]] == vector)
            found[order[at[positions]], positions] = True
        return found


class _Scoring:
    """The scores of one model."""

    def __init__(
        self,
        deps: DependencyGraph,
        batches: Sequence[list[Any]],
        ridge: float | None,
        progress: bool,
    ) -> None:
        self.deps = deps
        self.batches = batches
        self.ridge = ridge
        self.progress = progress
        self.model = Copy.of(deps)
        self.uses = uses_of(deps, self.model, self._run(batches[0]))
        self.spots = [self._spot(read) for read in self._reads(batches[0])]

    def scores(self) -> Iterator[Evidence]:
        """Those of all groups that can be pruned, as many at once as memory allows."""
        for groups, numbers in self._portions():
            mine = jointly_summed(self.deps, partial(self._measured, numbers), _sums)
            finite("what the model computes", torch.stack([s.sum() for s in _sums(mine)]))
            for group in tracked(groups, "choosing channels", shown=self.progress):
                yield Evidence(Axis(group.size, (group.ids,)), self._scores(group, mine))

    def _portions(self) -> Iterator[tuple[list[Group], set[int]]]:
        """Groups, and the numbers of the spots that read them."""
        groups: list[Group] = []
        numbers: set[int] = set()
        for group in self.deps.groups:
            own = {n for n, spot in enumerate(self.spots) if spot.carried(group.ids).any()}
            if not own or not group.prunable:
                continue
            if groups and sum(self.spots[n].memory for n in numbers | own) > MOST:
                yield groups, numbers
                groups, numbers = [], set()
            groups.append(group)
            numbers |= own
        if groups:
            yield groups, numbers

    def _run(self, values: list[Any]) -> Run:
        labels = self.deps.trace.labels.copy()
        mode = ReadingMode(labels, none, partial(_labelled, labels), "kept", self.model.names)
        mode.all_sums = True
        return Run("the model", self.model.module, copied(values), mode)

    def _reads(self, values: list[Any]) -> Iterator[Read]:
        """What sums over channels in a run of the model, one after another."""
        run = self._run(values)
        for node in self.model.module.graph.nodes:
            reads = run.step(node, self.deps.trace.values.get(node.name))
            for read in reads:
                assert isinstance(read, Read)
                if read.why != ON_ITS_OWN:
                    yield read

    def _spot(self, read: Read) -> _Spot:
        count = len(self.deps.trace.labels)  # the run may have made more
        vectors = tuple(np.where(v < count, v, 0) for v in read.axis.vectors)
        nothing = read.x.new_empty(0, read.axis.size)
        return _Spot(
            replace(read, axis=Axis(read.axis.size, vectors), x=nothing, out=nothing),
            is_refitted=not self.uses.why_not(read),
            about_mean=read.part is not None and self.uses.taker(read.part) is not None,
        )

    def _measured(self, numbers: Container[int]) -> _Moments:
        """The moments of all batches at some spots."""
        found = {n: spot.moments() for n, spot in enumerate(self.spots) if n in numbers}
        for values in tracked(self.batches, "activations", shown=self.progress):
            for number, pair in enumerate(zip_longest(self._reads(values), self.spots)):
                read, spot = pair
                if read is None or spot is None or not _are_alike(read, spot.read):
                    raise other_ways()
                if number in found:
                    rows, times = read.read_rows(read.x)
                    for sums, x in zip(found[number], rows.chunk(read.groups, 1), strict=True):
                        sums.add(x, times)
        return found

    def _scores(self, group: Group, moments: _Moments) -> Numbers:
        """How much the error grows when each channel goes; more for each that goes later."""
        alone = torch.zeros(group.size, dtype=torch.float64)
        readers: list[Reader] = []
        for number, sums in moments.items():
            carried = self.spots[number].carried(group.ids)
            if not carried.any():
                continue
            if self.spots[number].is_refitted:
                readers += self._readers(self.spots[number], sums, carried)
            else:
                squares = torch.cat([each.products for each in sums]).cpu()
                total = squares.sum().clamp(min=torch.finfo(squares.dtype).tiny)
                alone += torch.from_numpy(carried).double() @ squares / total
        found = np.empty(group.size)
        last = -math.inf
        for unit, growth in zip(*eliminated(readers, alone), strict=True):
            found[unit] = last = max(float(growth), math.nextafter(last, math.inf))
        return found

    def _readers(
        self, spot: _Spot, sums: Sequence[Covariance], carried: NDArray[np.bool_]
    ) -> Iterator[Reader]:
        """A spot, for each group of a convolution; their errors are shares of what all compute."""
        groups = spot.read.groups
        weight = spot.read.weight(self.model.state).double().cpu()
        rows = weight.reshape(*weight.shape[:2], -1).chunk(groups)
        weights = [torch.einsum("oct,odt->cd", each, each) for each in rows]
        seconds = [each.second(about_mean=spot.about_mean).cpu() for each in sums]
        energy = sum(float((h * c).sum()) for h, c in zip(weights, seconds, strict=True))
        parts = np.split(carried, groups, axis=1)
        for second, own, part in zip(seconds, weights, parts, strict=True):
            level = float(second.diagonal().mean())
            if energy > 0 and level > 0 and part.any():
                more = penalty(self.ridge, len(second), sums[0].count)
                second.diagonal().add_(more * level)
                yield Reader(second, own, [np.flatnonzero(row) for row in part], 1 / energy)


def _is_positive(value: Any) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 < value < math.inf


def _sums(moments: _Moments) -> list[Tensor]:
    return [tensor for each in moments.values() for sums in each for tensor in sums.tensors()]


def _are_alike(read: Read, other: Read) -> bool:
    """Whether two batches come by the same operator."""
    return (read.name, read.axis.size, read.groups) == (other.name, other.axis.size, other.groups)


def _labelled(labels: LabelAlgebra, axis: Axis) -> NDArray[np.bool_]:
    """The positions that carry a channel."""
    found: NDArray[np.bool_] = np.zeros(axis.size, dtype=np.bool_)
    for vector in labels.leaves(axis):
        found |= vector > 0
    return found
