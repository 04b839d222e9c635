"""The repair of a model, layer by layer or all at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch

from fxprune.analysis import DependencyGraph
from fxprune.errors import InputError
from fxprune.importance.processes import jointly
from fxprune.importance.running import finite, tracked
from fxprune.module_trees import as_parameter
from fxprune.readings.parts import Outcome
from fxprune.readings.products import Read, Uses
from fxprune.readings.runs import Copy, Run, none, other_ways, uses_of
from fxprune.reconstruction import norms as norm_repair
from fxprune.reconstruction.norm_reads import NormMode, NormRead, Norms, Wanted
from fxprune.reconstruction.norms import NormMeasured
from fxprune.reconstruction.outcomes import Change, Measured, judged
from fxprune.reconstruction.repaired import with_tensors
from fxprune.reconstruction.results import Reconstruction, Repair
from fxprune.values import copied

if TYPE_CHECKING:
    from torch import fx

    from fxprune.meaning import Norm
    from fxprune.planning import Layout

_T = TypeVar("_T")
_Place: TypeAlias = tuple[str, int]
_Pair: TypeAlias = tuple[Any, Any]
_Found: TypeAlias = Measured | NormMeasured


@dataclass
class Work:
    """The repair of one model.

    Attributes:
        ridge: of products; infinity for their means only, None if they are left as they are.
        norms: what is repaired of norms.
        norm_ridge: of these.
    """

    deps: DependencyGraph
    layout: Layout
    norm: Norm
    ridge: float | None
    norms: Norms
    norm_ridge: float
    progress: bool
    repairs: list[Repair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pruned = Copy.of(self.deps)
        self.uses = Uses()

    def _run(self, model: Copy, values: list[Any], *, masked: bool) -> Run:
        labels = self.deps.trace.labels.copy()
        gone = partial(self.layout.removed_positions, labels=labels)
        wanted = Wanted(self.ridge is not None, self.norms, model.state)
        removed = gone if masked else none
        mode = NormMode(labels, removed, gone, self.norm, model.names, wanted=wanted)
        name = "the pruned model" if masked else "the model"
        return Run(name, model.module, copied(values), mode)

    def _known(self, node: fx.Node) -> Any:
        return self.deps.trace.values.get(node.name)

    def _note_uses(self, values: list[Any]) -> None:
        model = Copy.of(self.deps)
        run = self._run(model, values, masked=False)
        self.uses, _ = jointly(self.deps, lambda: uses_of(self.deps, model, run), lambda _: None)

    def in_turn(self, batches: Sequence[list[Any]]) -> None:
        """Repair each layer for what it reads once all before it are pruned and repaired."""
        self._note_uses(batches[0])
        if written := sorted(self.uses.written):
            raise InputError(
                f"forward writes into {written[0]}",
                why="all batches go through the model together, node by node, and would read what"
                " others wrote",
                hint='pass mode="parallel" to fxprune.reconstruct, which runs batch by batch',
            )
        original = Copy.of(self.deps)
        dense = [self._run(original, values, masked=False) for values in batches]
        small = [self._run(self.pruned, values, masked=True) for values in batches]
        nodes = zip(original.module.graph.nodes, self.pruned.module.graph.nodes, strict=True)
        for node, twin in tracked([*nodes], "reconstruction", shown=self.progress):
            known = self._known(node)
            before = [run.step(node, known) for run in dense]
            for number in range(_number_of(before)):
                self._repair(node.name, number, before, twin, small)
            for run in small:
                run.step(twin, known)

    def _repair(
        self,
        node: str,
        number: int,
        before: Sequence[Sequence[Outcome]],
        twin: fx.Node,
        small: Sequence[Run],
    ) -> None:
        """Repair one product or norm of a node; those before it in the node are repaired."""

        def pairs() -> Iterator[_Pair]:
            for reads, run in zip(before, small, strict=True):
                now = run.tried(twin)
                if len(now) != len(reads):
                    raise other_ways()
                yield reads[number], now[number]

        def measured() -> _Found:
            found = _nothing_of(before[0][number])
            for pair in pairs():
                found.add(*pair)
            return found

        if (left := self._left(node, before[0][number])) is not None:
            self.repairs.append(left)
            return
        found = self._joint(measured, _sums)
        if _is_untouched(found):
            return
        if (left := self._left_of(node, found)) is not None:
            self.repairs.append(left)
            return
        change = self._change(node, found)
        change.put()
        (error,) = self._joint(
            lambda: [torch.stack([change.error(*p) for p in pairs()]).sum()], list
        )
        self.repairs.append(judged(change, found, error))

    def at_once(self, batches: Sequence[list[Any]]) -> None:
        """Repair all layers for what they read in the original."""
        self._note_uses(batches[0])
        every = self._joint(partial(self._all_measured, batches), _all_sums)
        found = {place: each for place, each in every.items() if not _is_untouched(each)}
        left = {place: self._left_of(place[0], each) for place, each in found.items()}
        changes = {p: self._change(p[0], found[p]) for p, entry in left.items() if entry is None}
        for change in changes.values():
            change.put()
        errors = self._joint(partial(self._all_errors, batches, changes), list)
        after = dict(zip(changes, errors, strict=True))
        for place, entry in left.items():
            self.repairs.append(entry or judged(changes[place], found[place], after[place]))

    def _pairs(self, batches: Sequence[list[Any]], what: str) -> Iterator[tuple[_Place, _Pair]]:
        """What products yield in the original, and for what is kept with weights of now."""
        for values in tracked(batches, what, shown=self.progress):
            original = Copy.of(self.deps)
            run = self._run(original, values, masked=False)
            run.mode.instead = self.pruned.state
            for node in original.module.graph.nodes:
                run.mode.trials = []
                reads = run.step(node, self._known(node))
                both = zip(reads, run.mode.trials, strict=True)
                yield from (((node.name, number), pair) for number, pair in enumerate(both))

    def _all_measured(self, batches: Sequence[list[Any]]) -> dict[_Place, _Found]:
        found: dict[_Place, _Found] = {}
        for place, (before, now) in self._pairs(batches, "reconstruction"):
            if place not in found:
                found[place] = _nothing_of(before)
            if self._left(place[0], before) is None:
                found[place].add(before, now)
        return found

    def _all_errors(
        self, batches: Sequence[list[Any]], changes: Mapping[_Place, Change]
    ) -> list[torch.Tensor]:
        sums = {place: torch.zeros((), dtype=torch.float64) for place in changes}
        for place, pair in self._pairs(batches, "how well it went"):
            if place in changes:
                sums[place] += changes[place].error(*pair)
        return list(sums.values())

    def _joint(self, work: Callable[[], _T], sums: Callable[[_T], list[torch.Tensor]]) -> _T:
        """What some work measures here, with the sums of all processes."""
        mine, every = jointly(self.deps, work, lambda found: [t.cpu() for t in sums(found)])
        if len(every) > 1:
            for own, *others in zip(sums(mine), *every, strict=True):
                own.copy_(torch.stack(others).sum(0))
        return mine

    def _left(self, node: str, read: Outcome) -> Repair | None:
        """Why a product stays as it is, if it does; of norms it depends on what they yield."""
        if isinstance(read, NormRead):
            return None
        why = self.uses.why_not(read)
        told = Repair(read.name, node, len(read.gone), int((~read.gone).sum()), why=why)
        return told if why else None

    def _left_of(self, node: str, found: _Found) -> Repair | None:
        """Why something stays as it is, by what was measured of it."""
        if isinstance(found, NormMeasured):
            return norm_repair.left(found, node, self.uses)
        return self._left(node, found.read)

    def _change(self, node: str, found: _Found) -> Change:
        """How a norm is to be, or a product to read what is kept."""
        if isinstance(found, NormMeasured):
            return norm_repair.change(node, found, self.uses, self.pruned.state, self.norm_ridge)
        read = found.read
        assert read.part is not None
        assert self.ridge is not None
        weight = read.weight(self.pruned.state)
        taker = self.uses.taker(read.part)
        new = weight.to(torch.float64, copy=True)
        constants = []
        groups = zip(weight.double().chunk(read.groups), new.chunk(read.groups), strict=True)
        for (own, made), moments in zip(groups, found.moments, strict=True):
            finite("what the model computes", moments.zz)
            finite("what the model computes", moments.xx)
            fit = moments.fit(self.ridge, with_intercept=taker is not None)
            made[:, moments.kept] += torch.einsum("oc...,ck->ok...", own, fit.mixing)
            shift = torch.einsum("oc...,c->o...", own, fit.intercept) * read.shares.to(own)
            constants.append(shift.reshape(len(shift), -1).sum(1))
        constant = torch.cat(constants)
        values = []
        if self.ridge < math.inf:
            values.append((weight, weight.clone(), new.to(weight)))
        outside, intercept = torch.zeros_like(constant), ""
        if taker is not None:
            intercept = taker.part.name
            bias = taker.part.of(self.pruned.state)
            values.append((bias, bias.clone(), (bias.double() + taker.sign * constant).to(bias)))
            outside = outside if taker.is_inside else constant
        told = Repair(
            read.name,
            node,
            len(read.gone),
            int((~read.gone).sum()),
            intercept=intercept,
            tensors=tuple(filter(None, (read.name if self.ridge < math.inf else "", intercept))),
        )
        return Change(told, values, outside[read.kept_rows])

    def outcome(self, batches: int) -> Reconstruction:
        """What was made."""
        names = dict.fromkeys(name for each in self.repairs for name in each.tensors)
        known = self.deps.state
        tensors = {n: as_parameter(self.pruned.state[n].detach(), known[n]) for n in names}
        deps = with_tensors(self.deps, tensors)
        return Reconstruction(deps, tuple(self.repairs), tensors, batches)


def _nothing_of(read: Outcome) -> _Found:
    """Sums of nothing, for what is to be repaired."""
    if isinstance(read, NormRead):
        return NormMeasured.of(read)
    assert isinstance(read, Read)
    return Measured.of(read)


def _is_untouched(found: _Found) -> bool:
    """Whether a norm yields what it did, so that there is nothing to tell."""
    return isinstance(found, NormMeasured) and not bool(found.error)


def _sums(found: _Found) -> list[torch.Tensor]:
    return found.tensors()


def _all_sums(found: dict[_Place, _Found]) -> list[torch.Tensor]:
    return [tensor for each in found.values() for tensor in each.tensors()]


def _number_of(reads: Sequence[Sequence[Outcome]]) -> int:
    """How many products a node has, the same in all batches."""
    if len({len(each) for each in reads}) != 1:
        raise other_ways()
    return len(reads[0])
