"""The repair of a model, layer by layer or all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import torch

from fxprune.analysis import DependencyGraph
from fxprune.errors import InputError
from fxprune.importance.processes import jointly, jointly_summed
from fxprune.importance.running import finite, tracked
from fxprune.module_trees import as_parameter
from fxprune.readings.parts import Outcome
from fxprune.readings.products import Read, Uses
from fxprune.readings.runs import Copy, Run, none, other_ways, uses_of
from fxprune.reconstruction import norms as norm_repair
from fxprune.reconstruction.norm_reads import NormMode, NormRead, Norms, Wanted
from fxprune.reconstruction.norms import NormMeasured
from fxprune.reconstruction.outcomes import WORSE, Change, Compared, Measured, Move, judged
from fxprune.reconstruction.repaired import with_tensors
from fxprune.reconstruction.results import Reconstruction, Repair
from fxprune.values import copied

if TYPE_CHECKING:
    from torch import fx

    from fxprune.meaning import Norm
    from fxprune.planning import Layout

Method: TypeAlias = Literal["regression", "mean", "none"]
"""What is repaired of layers; see `reconstruct`."""
_T = TypeVar("_T")
_Place: TypeAlias = tuple[str, int]
_Pair: TypeAlias = tuple[Any, Any]
_Found: TypeAlias = Measured | NormMeasured


@dataclass
class Work:
    """The repair of one model.

    Attributes:
        ridge: see `reconstruct`.
        method: what is repaired of products.
        norms: what is repaired of norms.
    """

    deps: DependencyGraph
    layout: Layout
    norm: Norm
    ridge: float | None
    method: Method
    norms: Norms
    progress: bool
    repairs: list[Repair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pruned = Copy.of(self.deps)
        self.uses = Uses()

    def _run(self, model: Copy, values: list[Any], *, masked: bool) -> Run:
        labels = self.deps.trace.labels.copy()
        gone = partial(self.layout.removed_positions, labels=labels)
        wanted = Wanted(self.method != "none", self.norms, model.state)
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

        if (left := self._left(node, before[0][number])) is not None:
            self.repairs.append(left)
            return
        found = jointly_summed(
            self.deps, lambda: _added(self._nothing_of(before[0][number]), pairs()), _sums
        )
        if _is_untouched(found):
            return
        if (left := self._left_of(node, found)) is not None:
            self.repairs.append(left)
            return
        change = self._change(node, found)
        change.put()
        after = jointly_summed(self.deps, lambda: _compared(before[0][number], pairs()), _sums)
        self.repairs.append(self._settled(change, found, after))

    def at_once(self, batches: Sequence[list[Any]]) -> None:
        """Repair all layers for what they read in the original."""
        self._note_uses(batches[0])
        every = jointly_summed(self.deps, partial(self._all_measured, batches), _all_sums)
        told: dict[_Place, Repair | None] = {}
        changes: dict[_Place, Change] = {}
        for place, found in every.items():
            if isinstance(found, Repair):
                told[place] = found
            elif not _is_untouched(found):
                told[place] = self._left_of(place[0], found)
                if told[place] is None:
                    changes[place] = self._change(place[0], found)
        for change in changes.values():
            change.put()
        after = jointly_summed(self.deps, partial(self._all_compared, batches, changes), _all_sums)
        for place, entry in told.items():
            if entry is None:
                found = every[place]
                assert not isinstance(found, Repair)
                entry = self._settled(changes[place], found, after[place])  # noqa: PLW2901
            self.repairs.append(entry)

    def _pairs(self, batches: Sequence[list[Any]], what: str) -> Iterator[tuple[_Place, _Pair]]:
        """What products yield in the original, and for what is kept with weights of now."""
        original = Copy.of(self.deps)
        for values in tracked(batches, what, shown=self.progress):
            if self.uses.written:
                original = Copy.of(self.deps)
            run = self._run(original, values, masked=False)
            run.mode.instead = self.pruned.state
            for node in original.module.graph.nodes:
                run.mode.trials = []
                reads = run.step(node, self._known(node))
                both = zip(reads, run.mode.trials, strict=True)
                yield from (((node.name, number), pair) for number, pair in enumerate(both))

    def _all_measured(self, batches: Sequence[list[Any]]) -> dict[_Place, _Found | Repair]:
        """What all batches show of every product and norm, or why it is left."""
        found: dict[_Place, _Found | Repair] = {}
        for place, pair in self._pairs(batches, "reconstruction"):
            if place not in found:
                found[place] = self._left(place[0], pair[0]) or self._nothing_of(pair[0])
            sums = found[place]
            if not isinstance(sums, Repair):
                sums.add(*pair)
        return found

    def _all_compared(
        self, batches: Sequence[list[Any]], changes: Mapping[_Place, Change]
    ) -> dict[_Place, Compared]:
        found: dict[_Place, Compared] = {}
        for place, pair in self._pairs(batches, "how well it went"):
            if place in changes:
                found.setdefault(place, Compared.nothing(pair[0])).compare(*pair)
        return found

    def _nothing_of(self, read: Outcome) -> _Found:
        """Sums of nothing, for what is to be repaired."""
        if isinstance(read, NormRead):
            return NormMeasured.of(read)
        assert isinstance(read, Read)
        return Measured.of(read, with_moments=self.method == "regression")

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
            return norm_repair.change(node, found, self.uses, self.pruned.state, self.ridge)
        read = found.read
        told = Repair(read.name, node, len(read.gone), int((~read.gone).sum()))
        nothing = torch.zeros_like(found.missing)
        if not found.moments:
            return Change(told, [], nothing)
        assert read.part is not None
        weight = read.weight(self.pruned.state)
        about_mean = self.uses.taker(read.part) is not None
        new = weight.to(torch.float64, copy=True)
        groups = zip(weight.double().chunk(read.groups), new.chunk(read.groups), strict=True)
        for (own, made), moments in zip(groups, found.moments, strict=True):
            for sums in moments.tensors():
                finite("what the model computes", sums)
            mixing = moments.fit(self.ridge, about_mean=about_mean)
            made[:, moments.kept] += torch.einsum("oc...,ck->ok...", own, mixing)
        move = Move(weight, weight.clone(), new.to(weight))
        return Change(replace(told, tensors=(read.name,)), [move], nothing)

    def _settled(self, change: Change, found: _Found, after: Compared) -> Repair:
        """What becomes of a change that was put: of a product what is best on the samples.

        That is its new weights or the old ones, each with the constant that is best for them.
        """
        if isinstance(found, NormMeasured):
            return judged(change, found, after)
        assert found.read.part is not None
        taker = self.uses.taker(found.read.part)
        choices: list[tuple[torch.Tensor, bool, Move | None]] = [(found.error, False, None)]
        for is_new, sums in ((False, found), (True, after)):
            move, step = None, torch.zeros_like(sums.missing)
            if taker is not None:
                rows, view = found.read.kept_rows, taker.part.of(self.pruned.state)
                move = Move.at(view, rows, taker.sign * sums.missing / sums.count)
                step = taker.sign * move.step(rows)
            choices.append((sums.error_with(step), is_new, move))
        error, is_new, move = min(choices, key=lambda choice: float(choice[0]))
        if not is_new:
            change.put(back=True)
        if move is not None:
            move.put()
        intercept = taker.part.name if move is not None and taker is not None else ""
        tensors = tuple(filter(None, (*(change.told.tensors if is_new else ()), intercept)))
        before = found.relative(found.error)
        if not tensors:
            return replace(change.told, before=before, after=before, why=WORSE, tensors=())
        after_it = found.relative(error)
        return replace(
            change.told, before=before, after=after_it, intercept=intercept, tensors=tensors
        )

    def outcome(self, batches: int) -> Reconstruction:
        """What was made."""
        names = dict.fromkeys(name for each in self.repairs for name in each.tensors)
        known = self.deps.state
        tensors = {n: as_parameter(self.pruned.state[n].detach(), known[n]) for n in names}
        deps = with_tensors(self.deps, tensors)
        return Reconstruction(deps, tuple(self.repairs), tensors, batches)


def _is_untouched(found: _Found) -> bool:
    """Whether a norm yields what it did, so that there is nothing to tell."""
    return isinstance(found, NormMeasured) and not bool(found.error)


def _sums(found: Compared) -> list[torch.Tensor]:
    return found.tensors()


def _all_sums(found: Mapping[_Place, Compared | Repair]) -> list[torch.Tensor]:
    sums = (each for each in found.values() if not isinstance(each, Repair))
    return [tensor for each in sums for tensor in each.tensors()]


def _added(found: _Found, pairs: Iterable[_Pair]) -> _Found:
    for pair in pairs:
        found.add(*pair)
    return found


def _compared(read: Outcome, pairs: Iterable[_Pair]) -> Compared:
    found = Compared.nothing(read)
    for pair in pairs:
        found.compare(*pair)
    return found


def _number_of(reads: Sequence[Sequence[Outcome]]) -> int:
    """How many products a node has, the same in all batches."""
    if len({len(each) for each in reads}) != 1:
        raise other_ways()
    return len(reads[0])
