"""Folding: channels that go are merged into those that are most like them, without data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fxprune.importance import folding
from fxprune.importance.units import Sides, compared, places
from fxprune.inputs import bind, materialize
from fxprune.module_trees import as_parameter, named_tensors
from fxprune.readings.runs import Copy
from fxprune.reconstruction.merging import Merges, merge_makers, merge_readers
from fxprune.reconstruction.preparing import prepared
from fxprune.reconstruction.repaired import with_tensors
from fxprune.reconstruction.results import Reconstruction, Repair
from fxprune.reconstruction.twins import unlike
from fxprune.surroundings import undisturbed
from fxprune.values import copied
from fxprune.weight_uses import WeightUse

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Mapping

    from numpy.typing import NDArray

    from fxprune.analysis import DependencyGraph, Model
    from fxprune.groups import Group, Member
    from fxprune.labels import Axis
    from fxprune.planning import Layout, Plan
    from fxprune.weight_uses import Crossing

_AS_NEAR = 1e-9
"""The share by which a distance may be larger and is the same."""
_UNLIKE = "kept channels that are made alike carry something else"
_RESHAPED = "a weight that reads them is reshaped"
_WIDE = "distances are computed between all channels of a group, and {} are the most"
_ROUNDS = 8
"""How often other channels are tried for those that turn out to be unlike."""
_FAR = "no removed channel is more like a kept one than like nothing"


@undisturbed()
def fold(
    model: Model, plan: Plan | str | os.PathLike[str], example_inputs: Any = None
) -> Reconstruction:
    """Merge the channels that a plan removes into kept ones that are like them, without data.

    Each removed channel goes into the kept channel of its group whose rows are nearest (of all
    layers that make the channel, side by side; see `importance.Folding`), unless nothing is nearer:
    then it is dropped. A kept channel is made by the mean of its cluster: weights, biases, the
    shift and the running mean of a batch norm, each channel with the share that the square of the
    weights has by which it is read; rows of weights are scaled to be as long as those of the
    cluster are in the mean. Whatever reads it reads it for all of them: their weights are
    added up. Channels that are the same fold exactly. As Wang et al., Forget the Data and
    Fine-Tuning! Just Fold the Network to Compress, 2025, section 3, for channels that any criterion
    chose, over residual streams, concatenations, flattened axes and heads.

    What a mean of rows makes varies less than what the rows make, for which their length makes up
    in part (Jordan et al., REPAIR, 2023, do it by statistics); `reconstruct` after it takes data.

    Channels are dropped as without folding, with the reason, if an operator goes over them in
    another way than linear layers and convolutions do (a layer norm, a product of queries and
    keys), if a weight that reads them is used otherwise too, is computed of others, or is reshaped
    so that they are no dim of what is stored, if their group has more than 16384 channels, and if
    they turn out not to carry the same when they are made alike. That is tried in a run on the
    example inputs, or on random ones of their shapes; those that differ are tried with the next
    nearest channel, in up to eight runs.

    >>> import torch, fxprune
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    >>> plan = fxprune.plan(model, torch.randn(1, 8), ratio=0.5, criterion="folding")
    >>> folded = fxprune.fold(model, plan)
    >>> small = fxprune.shrink(folded.model, plan)

    Args:
        model: the original, or its DependencyGraph.
        plan: what will be removed.
        example_inputs: what the model is analyzed with, as for `shrink`: one that is run on data to
            be analyzed needs them; by default inputs of the plan's shapes.

    Returns:
        The folded original, and for each weight that reads removed channels how many of them are
        merged, and why others are not if they cannot be; also for norms and products of values that
        go over removed channels. Errors are not measured, they are NaN.

    Raises:
        InputError: weights have no data, or example inputs do not fit; or the model is an
            ExportedProgram, or blocks of it are to go.
        PlanError: the plan is for another model.
        CaptureError, AnalysisError: see `analyze`.
    """
    deps, plan = prepared(model, plan, example_inputs)
    given = materialize(deps.inputs, seed=0) if example_inputs is None else example_inputs
    values = copied(list(bind(deps.graph_module, given)))
    work = _Work(deps, plan.layout(deps))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        work.choose()
        work.try_out(values)
        return work.outcome()


@dataclass
class _Work:
    """The folding of one model.

    Attributes:
        merges: who goes with whom, in each group that loses channels.
        why: for each id why it cannot be merged, or nothing.
        unlike: pairs of ids of channels that carry something else when they are made alike.
    """

    deps: DependencyGraph
    layout: Layout
    merges: list[Merges] = field(default_factory=list)
    why: dict[int, str] = field(default_factory=dict)
    unlike: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.sides = Sides.of(self.deps)
        tensors = {id(tensor) for tensor in named_tensors(self.deps.model).values()}
        self.own = {name for name, own in self.deps.state.items() if id(own) in tensors}

    def choose(self) -> None:
        """Find out who goes with whom."""
        for crossing in self.deps.trace.uses.crossings:
            for vector in self.deps.trace.labels.leaves(crossing.axis):
                self.refuse(vector, crossing.why)
        for group in self.deps.groups:
            removed = self.layout.is_removed(group.ids)
            if not removed.any():
                continue
            for member in group.members:
                self._refuse_by(group, member)
            if group.size > folding.WIDEST:
                self.refuse(group.ids, _WIDE.format(folding.WIDEST))
            if self._able(group)[removed].any():
                self.merges.append(self._nearest(group))

    def _able(self, group: Group) -> NDArray[np.bool_]:
        """Which channels may be merged."""
        return np.array([channel not in self.why for channel in group.ids.tolist()])

    def _nearest(self, group: Group) -> Merges:
        """Who goes with whom in a group, but for pairs that are unlike.

        A channel that is unlike its nearest one may go into another that is as near, and no other.
        """
        units = compared(group, self.sides, self._stored)
        places = {channel: place for place, channel in enumerate(group.ids.tolist())}
        unlike: dict[int, list[int]] = {}
        for one, two in self.unlike:
            if one in places:
                unlike.setdefault(places[one], []).append(places[two])
        for place, others in unlike.items():
            row = units.distances[place]
            nearest = row[others].min()
            row[row > nearest + _AS_NEAR * (nearest + units.squares[place])] = np.inf
            row[others] = np.inf
        return Merges.nearest(group, units, self.layout.is_removed(group.ids), self._able(group))

    def _refuse_by(self, group: Group, member: Member) -> None:
        if member.others:
            self.refuse(group.ids, "channels meet one another in a weight")
        if (member.parameter, member.dim) in self.sides.mixed:
            self.refuse(group.ids, "a weight that reads them is used elsewhere")
        if (member.parameter, member.dim) in self.sides.unclear:
            self.refuse(group.ids, _RESHAPED)
        if self.sides.reads(member) and member.parameter not in self.own:
            self.refuse(group.ids, f"the model has no tensor {member.parameter} of its own")

    def refuse(self, ids: NDArray[np.int64], why: str) -> None:
        """Let channels be dropped."""
        for channel in ids[ids > 0].tolist():
            self.why.setdefault(channel, why)

    def _stored(self, name: str) -> torch.Tensor:
        return self.deps.state[name].detach()

    def try_out(self, values: list[Any]) -> None:
        """Make channels alike that are to be merged; try others for those that differ then."""
        tried: set[int] = set()
        for _ in range(_ROUNDS):
            failed = self._failing(values)
            if not failed:
                break
            tried |= failed.keys()
            self.unlike |= failed.items()
            self.merges = [
                self._nearest(each.group) if failed.keys() & set(each.group.ids.tolist()) else each
                for each in self.merges
            ]
        else:
            self.refuse(np.array([*self._failing(values)], dtype=np.int64), _UNLIKE)
        for number, merges in enumerate(self.merges):
            able = self._able(merges.group)
            self.merges[number] = merges.without(~(able & able[merges.into]))
            alone = merges.group.ids[~self.merges[number].merged]
            self.refuse(alone[np.isin(alone, [*tried])], _UNLIKE)

    def _failing(self, values: list[Any]) -> dict[int, int]:
        """The channels that carry something else than those that they are to go into, with these.

        Those of tensors that forward writes into are refused.
        """
        copy = Copy.of(self.deps)
        into = np.arange(len(self.deps.trace.labels))
        for merges in self.merges:
            into[merges.group.ids] = merges.group.ids[merges.into]
            made = _Changes(copy.state, self.own)
            merge_makers(merges, self.sides, made)
            for name, tensor in made.changed.items():
                copy.state[name].copy_(tensor)
        failed, written = unlike(self.deps, copy, values, into)
        for merges in self.merges:
            if any(member.parameter in written for member in merges.group.members):
                self.refuse(merges.group.ids, "forward writes into weights of theirs")
        return {one: int(into[one]) for one in np.flatnonzero(failed).tolist()}

    def outcome(self) -> Reconstruction:
        """What was made."""
        made, makers = _Changes(self.deps.state, self.own), []
        for merges in self.merges:
            names: tuple[str, ...] = ()
            if merges.merged.any():
                names = merge_makers(merges, self.sides, made)
                merge_readers(merges, self.sides, made)
            makers.append(names)
        tensors = {}
        for name, tensor in made.changed.items():
            own = self.deps.state[name]
            folded = tensor.to(own.dtype)
            if not torch.equal(folded, own):
                tensors[name] = as_parameter(folded, own)
        repairs = tuple(
            replace(each, tensors=tuple(filter(tensors.__contains__, each.tensors)))
            for each in self._told(makers)
        )
        return Reconstruction(with_tensors(self.deps, tensors), repairs, tensors, batches=0)

    def _told(self, makers: list[tuple[str, ...]]) -> list[Repair]:
        """What became of each weight that reads removed channels."""
        found: dict[tuple[str, int], Repair] = {}
        told: set[int] = set()
        for use in self.deps.trace.uses.uses:
            stored = self.deps.state[use.name]
            dim = None if use.summed is None else use.dim_of(stored, use.summed)
            if dim is not None:
                repair, axis = self._reader(use, dim, makers), self.deps.trace.axes[use.name][dim]
            elif use.unclear(stored) and use.axis is not None:
                repair, axis, dim = self._dropped(use, use.axis, _RESHAPED), use.axis, -1
            else:
                continue
            if repair.inputs > repair.kept:
                found.setdefault((use.name, dim), repair)
                told |= self._removed(axis)
        return [*found.values(), *self._left({name for name, _ in found}, told)]

    def _reader(self, use: WeightUse, dim: int, makers: list[tuple[str, ...]]) -> Repair:
        """What became of a weight along a dim."""
        axis = self.deps.trace.axes[use.name][dim]
        merged, tensors = np.zeros(axis.size, dtype=np.bool_), [use.name]
        for merges, names in zip(self.merges, makers, strict=True):
            for member in merges.group.members:
                if (member.parameter, member.dim) == (use.name, dim) and merges.merged.any():
                    table = places(member, merges.group.size)[merges.merged]
                    merged[table[table >= 0]] = True
                    tensors += names
        merged &= self._gone(axis)
        whys = [self.why[i] for i in sorted(self._removed(axis, ~merged)) if i in self.why]
        count = int(merged.sum())
        repair = self._dropped(use, axis, next(iter(whys), "" if count else _FAR))
        return replace(repair, tensors=tuple(dict.fromkeys(tensors if count else ())), merged=count)

    def _dropped(self, use: WeightUse | Crossing, axis: Axis, why: str) -> Repair:
        """What is told of something that reads an axis of which channels are dropped."""
        gone = self._gone(axis)
        name = use.name if isinstance(use, WeightUse) else use.weight or use.node
        return Repair(name, use.node, len(gone), int((~gone).sum()), why=why)

    def _left(self, names: set[str], told: set[int]) -> list[Repair]:
        """What reads removed channels in another way.

        Args:
            names: of weights that are told of already.
            told: the ids of the removed channels that these read.
        """
        found: dict[str, Repair] = {}
        crossings = self.deps.trace.uses.crossings
        for crossing in sorted(crossings, key=lambda each: not each.weight):
            ids = self._removed(crossing.axis)
            is_told = crossing.weight in names if crossing.weight else ids <= told
            if not ids or is_told:
                continue
            is_norm = crossing.is_norm and bool(crossing.weight)
            repair = self._dropped(crossing, crossing.axis, crossing.why)
            found.setdefault(repair.weight, replace(repair, kind="norm" if is_norm else "layer"))
            told = told | ids
        return list(found.values())

    def _removed(self, axis: Axis, among: NDArray[np.bool_] | None = None) -> set[int]:
        """The ids of removed channels at the positions of an axis."""
        found: set[int] = set()
        for vector in self.deps.trace.labels.leaves(axis):
            ids = np.unique(vector if among is None else vector[among])
            ids = ids[ids > 0]
            found |= set(ids[self.layout.is_removed(ids)].tolist())
        return found

    def _gone(self, axis: Axis) -> NDArray[np.bool_]:
        return self.layout.removed_positions(axis, self.deps.trace.labels)


class _Changes:
    """Stored tensors in double precision, copied when they are asked for.

    Args:
        state: the tensors by name.
        own: the names of those that can be changed; of others a copy is handed out and forgotten.

    Attributes:
        changed: those that were asked for, by name.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], own: Container[str]) -> None:
        self.state = state
        self.own = own
        self.changed: dict[str, torch.Tensor] = {}

    def __call__(self, name: str) -> torch.Tensor:
        """A tensor to be changed."""
        if name in self.changed:
            return self.changed[name]
        tensor = self.state[name].detach()
        wide = torch.complex128 if tensor.is_complex() else torch.float64
        copy = tensor.to(wide, copy=True)
        if name in self.own:
            self.changed[name] = copy
        return copy
