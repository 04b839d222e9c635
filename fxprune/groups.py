"""Groups: families of channels that share the axes of the same parameters."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fxprune.labels import Axis, Ids, LabelAlgebra
from fxprune.notebook_groups import group_html
from fxprune.notebook_tables import Shown
from fxprune.rules import as_diagnostic
from fxprune.rules.convolution import KERNEL_AXIS
from fxprune.rules.place import Place, module_path
from fxprune.traces import Trace, traced_tensors

if TYPE_CHECKING:
    from torch import fx

    from fxprune.errors import Diagnostic

Occurrence: TypeAlias = tuple[str, int, tuple[Ids, ...]]
Kind: TypeAlias = Literal["channels", "groups", "heads", "head_dims", "copies"]
_VIEWS = (torch.ops.aten.view, torch.ops.aten._unsafe_view, torch.ops.aten.reshape)
_KINDS: tuple[Kind, ...] = ("channels", "groups", "heads", "head_dims", "copies")


@dataclass(frozen=True)
class Member:
    """A parameter axis that a group occurs on.

    `channels[p]` is the channel of the group at position p, or -1 if the position belongs to
    another group. Where several channels of the group meet at positions, as in the outer product of
    channels with themselves, `others` has the further ones, in the same form.
    """

    parameter: str
    dim: int
    channels: NDArray[np.int64]
    others: tuple[NDArray[np.int64], ...] = ()

    @cached_property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """For each channel of the group, its positions along the axis: they go with it."""
        rows = (self.channels, *self.others)
        found: list[list[int]] = [[] for _ in range(max(int(row.max()) for row in rows) + 1)]
        for row in rows:
            for position, channel in enumerate(row.tolist()):
                if channel >= 0:
                    found[channel].append(position)
        return tuple(tuple(sorted(set(each))) for each in found)

    def __str__(self) -> str:
        used = np.flatnonzero(self.channels >= 0)
        text = f"{self.parameter}[{self.dim}]"
        if len(used) < len(self.channels):
            run = f"{used[0]}:{used[-1] + 1}" if _is_run(used) else f"{len(used)} positions"
            text += f" {run}"
        copies = len(self.positions[0]) if self.others else len(used) // (self.channels.max() + 1)
        return f"{text} x{copies}" if copies > 1 else text


@dataclass(frozen=True)
class Producer:
    """The first value of the graph that carries a group: node, output number, dim."""

    node: str
    output: int
    dim: int


@dataclass(frozen=True, eq=False)
class Group(Shown):
    """Channels that occur on the same parameter axes, and so are chosen among one another.

    Attributes:
        name: made from the first module that produces the channels, such as `layer1.0.conv1`.
        size: number of channels.
        kind: "channels"; "heads" and "head_dims" of an attention; "groups" of a grouped
            convolution (a group goes as a whole); "copies" that an `expand` makes.
        pinned: None, or the reason why none of the channels can be removed.
        ids: the label ids of the channels, in channel order.
        producer: where the channels first appear, or None if only parameters carry them.
    """

    name: str
    kind: Kind
    pinned: Diagnostic | None
    ids: Ids
    producer: Producer | None
    _occurrences: Sequence[Occurrence]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.ids)

    @property
    def prunable(self) -> bool:
        """Whether a plan may remove some of the channels; a ratio leaves at least one."""
        return self.pinned is None and self.size > 1

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The parameter axes on which the channels occur."""
        order = np.argsort(self.ids)
        ordered = self.ids[order]
        found = []
        for name, dim, vectors in self._occurrences:
            channels = np.full(len(vectors[0]), -1, dtype=np.int64)
            rows = []
            for vector in vectors:
                index = np.clip(np.searchsorted(ordered, vector), 0, len(ordered) - 1)
                rows.append(np.where(ordered[index] == vector, order[index], -1))
                channels = np.where(rows[-1] >= 0, rows[-1], channels)
            others = tuple(row for row in rows if ((row >= 0) & (row != channels)).any())
            found.append(Member(name, dim, channels, others))
        return tuple(found)

    def _repr_html_(self) -> str:
        return group_html(self)

    def __str__(self) -> str:
        state = f" pinned: {self.pinned.what}" if self.pinned else ""
        state += f" at {self.pinned.where.node}" if self.pinned and self.pinned.where.node else ""
        head = f"{self.name}: {self.size} {self.kind}{state}"
        return "\n".join([head, *(f"    {member}" for member in self.members)])


def build_groups(graph: fx.Graph, trace: Trace) -> tuple[Group, ...]:
    """All groups of a traced model, in the order in which the graph produces them.

    Two channels are in one group if they occur on the same parameter axes, are of one kind, and are
    both free or pinned for the same reason. Where such ids meet at a position, as a key head and
    one of its query heads do, they must be in the same label vectors, too. So every parameter axis
    is a union of whole groups, and a ratio for each group is the ratio of every axis.
    """
    labels = trace.labels
    occurrences = [
        (name, dim, vectors)
        for name, dim, axis in parameter_axes(trace)
        if (vectors := labels.roots(axis))
    ]
    signature = np.zeros(len(labels), dtype=np.uint64)
    weights = np.random.default_rng(0).integers(1, 2**63, len(occurrences), dtype=np.uint64)
    for weight, (_, _, vectors) in zip(weights, occurrences, strict=True):
        signature[np.concatenate(vectors)] += weight  # an id that occurs twice counts once
    signature[0] = 0
    ids = np.flatnonzero(signature)
    appearance, producers = _first_appearances(graph, trace)
    kinds = _kinds(labels, occurrences, _copies(labels, appearance, producers))
    one, two = np.random.default_rng(2).integers(1, 2**63, 2, dtype=np.uint64)
    keys = signature[ids] + one * labels.pins(ids).astype(np.uint64) + two * kinds[ids]
    family = _told_apart(_numbered(keys), ids, occurrences, len(labels))
    order = np.lexsort((ids, appearance[ids], family))
    starts = np.flatnonzero(np.diff(family[order]))
    families = np.split(ids[order], starts + 1) if ids.size else []
    families.sort(key=lambda members: (appearance[members[0]], members[0]))
    where = _occurrences_of(families, occurrences, len(labels))
    nodes = {node.name: node for node in graph.nodes}
    groups = []
    for members, occurs in zip(families, where, strict=True):
        reason = labels.pin_reason(int(members[0]))
        pinned = as_diagnostic(reason) if reason is not None else None
        if pinned is not None and pinned.what == KERNEL_AXIS:
            continue
        stamp = int(appearance[members[0]])
        producer = producers[stamp] if stamp < len(producers) else None
        kind = _KINDS[int(kinds[members[0]])]
        name = _name(nodes.get(producer.node) if producer else None, kind, occurs[0][0])
        groups.append(Group(name, kind, pinned, members, producer, occurs))
    return _with_unique_names(groups)


def _numbered(keys: NDArray[np.uint64]) -> Ids:
    """For each key the number of its family: equal keys have one."""
    numbers: Ids = np.unique(keys, return_inverse=True)[1]
    return numbers


def _told_apart(
    family: Ids, ids: Ids, occurrences: Sequence[Occurrence], count: int
) -> NDArray[np.int64]:
    """Families without ids that meet at a position: they divide by the vectors that they are in.

    Key heads and the query heads of each occur on the same axes of a fused projection.
    """
    family_of = np.full(count, -1, dtype=np.int64)
    family_of[ids] = family
    meeting = np.zeros(len(ids) + 1, dtype=np.bool_)
    several = [vectors for _, _, vectors in occurrences if len(vectors) > 1]
    for vectors in several:
        for vector, other in itertools.combinations(vectors, 2):
            same = (family_of[vector] == family_of[other]) & (vector != other)
            meeting[family_of[vector[same]]] = True
    if not meeting.any():
        return family
    weights = np.random.default_rng(1)
    vectors_of = np.zeros(count, dtype=np.uint64)
    for vectors in several:
        for vector in vectors:
            vectors_of[np.unique(vector)] += weights.integers(1, 2**63, dtype=np.uint64)
    one = weights.integers(1, 2**63, dtype=np.uint64)
    apart = np.where(meeting[family], vectors_of[ids], np.uint64(0))
    return _numbered(apart + one * family.astype(np.uint64))


def parameter_axes(trace: Trace) -> Iterator[tuple[str, int, Axis]]:
    """Every axis of every state tensor that some op reads; a tied tensor counts once."""
    for name, axes in trace.axes.items():
        if name in trace.touched:
            for dim, axis in enumerate(axes):
                yield name, dim, axis


def _first_appearances(graph: fx.Graph, trace: Trace) -> tuple[Ids, list[Producer]]:
    """For each id a number that grows with its first value in the graph, and these values."""
    labels = trace.labels
    producers: list[Producer] = []
    appearance = np.full(len(labels), np.iinfo(np.int64).max, dtype=np.int64)
    state_nodes = ("get_attr", "placeholder")
    seen: set[int] = set()
    for node in graph.nodes:
        if node.op in state_nodes:
            continue
        for output, tensor in enumerate(traced_tensors(trace.values.get(node.name))):
            for dim, axis in enumerate(tensor.axes):
                if id(axis) in seen:
                    continue
                seen.add(id(axis))
                for vector in labels.roots(axis):
                    new = vector[appearance[vector] > len(producers)]
                    if new.size:
                        appearance[new] = len(producers)
                        producers.append(Producer(node.name, output, dim))
    return appearance, producers


def _kinds(
    labels: LabelAlgebra, occurrences: Sequence[Occurrence], copies: Ids
) -> NDArray[np.uint64]:
    """For each id the number of its kind.

    Rows of a refinement that became a batch axis of a contraction are heads, their columns head
    dims, if they became another axis of one. Otherwise the columns are channels, taken equally from
    each row, and the rows are groups; unless all columns are pinned, or are the pieces of a view
    that only the rows come out of (a maxout), then the rows are the channels. Axes of a contraction
    that meet heads at a position of a parameter, such as the values of a key head that all heads
    share, are head dims too. Copies are neither head dims nor channels.
    """
    kinds = np.zeros(len(labels), dtype=np.uint64)
    batch = labels.marked(labels.batch_ids, keep_pinned=True)
    inner = labels.marked(labels.inner_ids, keep_pinned=True)
    inner[copies] = False
    heads = []
    for refinement in labels.refinements:
        all_rows = np.concatenate([[0], *labels.expand([refinement.rows], keep_pinned=True)])
        rows = all_rows[~labels.is_pinned(all_rows)]
        columns = np.concatenate([[0], *labels.expand([refinement.columns])])
        if batch[all_rows].any():
            heads.append((all_rows, columns if inner[columns].any() else columns[:0]))
        elif rows.any() and (
            refinement.prefer_rows
            or (_is_view(refinement.place) and _ends_before(columns, rows, occurrences))
        ):
            kinds[columns] = _KINDS.index("groups")
        elif columns.any():
            kinds[rows] = _KINDS.index("groups")
    for rows, columns in heads:
        kinds[rows] = _KINDS.index("heads")
        kinds[columns] = _KINDS.index("head_dims")
    beside = _beside_heads(kinds, occurrences)
    kinds[beside[inner[beside] & ~labels.is_pinned(beside)]] = _KINDS.index("head_dims")
    kinds[copies[kinds[copies] == _KINDS.index("channels")]] = _KINDS.index("copies")
    return kinds


def _beside_heads(kinds: NDArray[np.uint64], occurrences: Sequence[Occurrence]) -> Ids:
    """The ids that share a position of a parameter with heads and are none themselves."""
    found = [np.zeros(0, dtype=np.int64)]
    for _, _, vectors in occurrences:
        if len(vectors) > 1:
            ids = np.stack(vectors)
            is_head = (kinds[ids] == _KINDS.index("heads")) & (ids != 0)
            found.append(ids[is_head.any(axis=0) & ~is_head & (ids != 0)])
    return np.unique(np.concatenate(found))


def _copies(labels: LabelAlgebra, appearance: Ids, producers: Sequence[Producer]) -> Ids:
    """The ids that an `expand` or a repetition made: no value before it carries them."""
    nodes = np.array([*(producer.node for producer in producers), ""])
    found = [np.zeros(0, dtype=np.int64)]
    for ids, place in labels.copy_ids:
        roots = labels.find(ids)
        maker = place.node.name if isinstance(place, Place) else ""
        found.append(roots[nodes[np.minimum(appearance[roots], len(producers))] == maker])
    return np.concatenate(found)


def _is_view(place: Any) -> bool:
    op = place.op if isinstance(place, Place) else None
    return op is not None and op._overloadpacket in _VIEWS


def _ends_before(columns: Ids, rows: Ids, occurrences: Sequence[Occurrence]) -> bool:
    """Whether the rows are on all parameter axes that the columns are on, and on others too."""
    if not columns.any():
        return False
    column, row = columns.max(), rows.max()
    on_rows = [any((v == row).any() for v in vectors) for _, _, vectors in occurrences]
    on_columns = [any((v == column).any() for v in vectors) for _, _, vectors in occurrences]
    return on_rows != on_columns and all(map(operator.le, on_columns, on_rows))


def _occurrences_of(
    families: Sequence[Ids], occurrences: Sequence[Occurrence], count: int
) -> list[list[Occurrence]]:
    """For each family, the parameter axes it occurs on."""
    family_of = np.full(count, -1, dtype=np.int64)
    for number, members in enumerate(families):
        family_of[members] = number
    found: list[list[Occurrence]] = [[] for _ in families]
    for occurrence in occurrences:
        present = np.zeros(len(families) + 1, dtype=np.bool_)
        present[family_of[np.concatenate(occurrence[2])]] = True
        for number in np.flatnonzero(present[:-1]).tolist():
            found[number].append(occurrence)
    return found


def _name(node: fx.Node | None, kind: Kind, parameter: str) -> str:
    name = parameter
    if node is not None:
        path = module_path(node)
        name = f"{path}.{node.name.removeprefix(path.replace('.', '_') + '_')}" if path else ""
        if path and (node.op == "call_module" or path == parameter.rpartition(".")[0]):
            name = path
        name = name or node.name
    return name if kind == "channels" else f"{name}[{kind}]"


def _with_unique_names(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups of one producer are told apart by a number; a single free one goes without."""
    count = Counter(group.name for group in groups)
    free = Counter(group.name for group in groups if group.pinned is None)
    seen: Counter[str] = Counter()
    renamed = []
    for group in groups:
        name = group.name
        if count[name] > 1 and not (free[name] == 1 and group.pinned is None):
            name = f"{name}#{seen[name]}"
            seen[group.name] += 1
        renamed.append(replace(group, name=name))
    return tuple(renamed)


def _is_run(positions: Ids) -> bool:
    return bool(positions[-1] - positions[0] + 1 == len(positions))
