"""Operators that read at positions which a tensor names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from fxprune.labels import Axis
from fxprune.rules.call import Call, value_of
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

aten = torch.ops.aten
UNKNOWN = "indexed with positions that are not known at compile time"


def _gathered(call: Call, axis: Axis, index: torch.Tensor) -> list[Axis]:
    """The axes that indexing `axis` with `index` yields: known positions are moved labels."""
    value = value_of(index)
    if value is not None and value.dim() == 1 and value.dtype != torch.bool:
        call.pin(call.axes(index), "known positions")
        return [call.labels.take(axis, value.cpu().numpy() % axis.size)]
    call.pin([axis], UNKNOWN)
    return list(call.axes(index))


@rule(aten.index_select)
def index_select(call: Call) -> None:
    """Positions of one axis."""
    x = list(call.axes("self"))
    dim = call.dim()
    call.result([*x[:dim], *_gathered(call, x[dim], call.arg("index")), *x[dim + 1 :]])


@dataclass(frozen=True)
class Lookup:
    """What `x[indices]` reads: the dims that are indexed, by what, and where the outcome goes.

    A mask of k dims counts as indexing k of them. The dims that the index tensors span together
    (`block`, their broadcast shape) stand in the outcome before dim `first` of the others.
    """

    dims: tuple[int, ...]
    tensors: tuple[torch.Tensor, ...]
    first: int
    has_mask: bool

    @property
    def width(self) -> int:
        """How many dims the index tensors span; a mask becomes a list of positions."""
        return max((1 if _is_mask(t) else t.dim() for t in self.tensors), default=0)

    @classmethod
    def of(cls, call: Call) -> Lookup:
        """Read it off the argument `indices`."""
        dims: list[int] = []
        tensors: list[torch.Tensor] = []
        dim, places, has_mask = 0, [], False
        for place, item in enumerate(call.arg("indices")):
            is_mask = item is not None and _is_mask(item)
            width = item.dim() if is_mask else 1
            if item is not None:
                dims += range(dim, dim + width)
                tensors.append(item)
                places.append(place)
            has_mask |= is_mask
            dim += width
        adjacent = places == list(range(places[0], places[-1] + 1)) if places else True
        return cls(tuple(dims), tuple(tensors), dims[0] if dims and adjacent else 0, has_mask)

    def known(self) -> list[NDArray[np.int64]] | None:
        """The positions on each dim, broadcast against one another, if all are known."""
        values = [value_of(tensor) for tensor in self.tensors]
        if self.has_mask or any(value is None for value in values):
            return None
        arrays = [value.cpu().numpy().astype(np.int64) for value in values if value is not None]
        return list(np.broadcast_arrays(*arrays))


def _is_mask(item: torch.Tensor) -> bool:
    return item.dtype in (torch.bool, torch.uint8)


@rule(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(call: Call) -> None:
    """`x[i]`, `x[:, i, j]`: the axes that are not indexed pass.

    1. All positions known: an entry of the outcome goes if its position on any indexed axis does.
       Where that does not fit rows and columns, the reshape of these entries couples them.
    2. Positions not known: the indexed axes stay; the axes of the index tensors make the outcome's.
    3. A mask: the axes that it lies on and its own stay.
    """
    x = list(call.axes("self"))
    lookup = Lookup.of(call)
    rest = [axis for dim, axis in enumerate(x) if dim not in lookup.dims]
    shape = call.out.shape[lookup.first : lookup.first + lookup.width]
    known = lookup.known()
    if known is not None and 0 not in shape:
        for tensor in lookup.tensors:
            call.pin(call.axes(tensor), "known positions")
        block = _moved(call, [x[dim] for dim in lookup.dims], known, shape)
    else:
        call.pin(
            [x[dim] for dim in lookup.dims], "picked by a mask" if lookup.has_mask else UNKNOWN
        )
        block = _spanned(call, lookup, shape)
    call.result([*rest[: lookup.first], *block, *rest[lookup.first :]])


def _moved(
    call: Call, axes: list[Axis], known: list[NDArray[np.int64]], shape: tuple[int, ...]
) -> list[Axis]:
    """The axes of the entries at known positions: each goes with any of its positions."""
    labels = call.labels
    taken = [
        labels.take(axis, positions.reshape(-1) % axis.size)
        for axis, positions in zip(axes, known, strict=True)
    ]
    if len(taken) == 1:
        flat = taken[0]
    else:
        flat = Axis(taken[0].size, tuple(v for axis in taken for v in axis.vectors))
    return labels.reshape([flat], shape)


def _spanned(call: Call, lookup: Lookup, shape: tuple[int, ...]) -> list[Axis]:
    """The axes that the index tensors span together; those of masks stay."""
    if lookup.has_mask:
        for tensor in lookup.tensors:
            call.pin(call.axes(tensor), "a mask, or used together with one")
        return [call.pinned(size) for size in shape]
    block = []
    for back in range(len(shape), 0, -1):
        operands = [call.axes(t)[-back] for t in lookup.tensors if t.dim() >= back]
        wide = [axis for axis in operands if axis.size != 1]
        for other in wide[1:]:
            call.labels.unify(wide[0], other)
        block.append(wide[0] if wide else call.pinned(1))
    return block


@rule(aten.embedding)
def embedding(call: Call) -> None:
    """Rows of the table are looked up by number and stay; its columns pass."""
    table = call.axes("weight")
    call.pin([table[0]], "rows of an embedding table are looked up by number")
    call.result([*call.axes("indices"), table[1]])


@rule(aten._embedding_bag, aten._embedding_bag_forward_only)
def embedding_bag(call: Call) -> None:
    """As embedding, in bags: how many are looked up, and where bags begin, stays too."""
    table = call.axes("weight")
    call.pin([table[0]], "rows of an embedding table are looked up by number")
    for name in ("indices", "offsets", "per_sample_weights"):
        if call.arg(name) is not None:
            call.pin(call.axes(name), "offsets of bags count these positions")
    call.result([call.pinned(call.outputs()[0].shape[0]), table[1]])


@rule(aten.embedding_renorm)
def embedding_renorm(call: Call) -> None:
    """Changes the table itself by the norms of its rows: all of it stays."""
    call.pin(call.axes("self"), "the table is normalized in place (max_norm)", "set max_norm=None")
    call.pin(call.axes("indices"), "rows that are normalized in place")
    call.result(call.axes("self"))


@rule(aten.gather)
def gather(call: Call) -> None:
    """Positions along one axis for each entry; on the others, the index lies on the first ones.

    The axis that is read stays, because an index tensor that is not the same along the other axes
    has no labels to move. How many are read can go.
    """
    x, picked = call.axes("self"), call.axes("index")
    if x:
        dim = call.dim()
        call.pin([x[dim]], UNKNOWN)
        for d, (axis, other) in enumerate(zip(x, picked, strict=True)):
            if d != dim:
                lies_on_first(call, other, axis)
    call.result(picked)


def lies_on_first(call: Call, part: Axis, whole: Axis) -> None:
    """An axis is one with the first positions of another."""
    if part.size != whole.size:
        whole = call.labels.take(whole, slice(0, part.size))
    call.labels.unify(part, whole)
