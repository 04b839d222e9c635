"""Operators that index with a tensor."""

from __future__ import annotations

import torch

from fxprune.labels import Axis
from fxprune.rules.call import Call, value_of
from fxprune.rules.registry import rule

aten = torch.ops.aten


def _gathered(call: Call, axis: Axis, index: torch.Tensor) -> list[Axis]:
    """The axes that indexing `axis` with `index` yields: known positions are moved labels."""
    value = value_of(index)
    if value is not None and value.dim() == 1 and value.dtype != torch.bool:
        positions = value.cpu().numpy() % axis.size
        return [call.labels.take(axis, positions)]
    call.pin([axis], "indexed with positions that are not known at compile time")
    return list(call.axes(index))


@rule(aten.index_select)
def index_select(call: Call) -> None:
    """Positions of one axis."""
    x = list(call.axes("self"))
    dim = call.dim()
    call.result([*x[:dim], *_gathered(call, x[dim], call.arg("index")), *x[dim + 1 :]])


@rule(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(call: Call) -> None:
    """`x[i]`, `x[:, i]`: one known index moves labels; several pin the axes they index."""
    x = list(call.axes("self"))
    indices = list(call.arg("indices"))
    used = [dim for dim, i in enumerate(indices) if i is not None]
    if any(indices[dim].dtype in (torch.bool, torch.uint8) for dim in used):
        call.pin([*x, *(a for dim in used for a in call.axes(indices[dim]))], "picked by a mask")
        call.result([call.pinned(size) for size in call.out.shape])
        return
    if len(used) == 1:
        (dim,) = used
        call.result([*x[:dim], *_gathered(call, x[dim], indices[dim]), *x[dim + 1 :]])
        return
    call.pin([x[dim] for dim in used], "indexed together with other axes")
    for dim in used:
        call.pin(call.axes(indices[dim]), "used as an index together with others")
    count = call.out.dim() - (len(x) - len(used))
    adjacent = used == list(range(used[0], used[-1] + 1))
    first = used[0] if adjacent else 0
    rest = [axis for dim, axis in enumerate(x) if dim not in used]
    picked = [call.pinned(size) for size in call.out.shape[first : first + count]]
    call.result([*rest[:first], *picked, *rest[first:]])


@rule(aten.embedding)
def embedding(call: Call) -> None:
    """Rows of the table are looked up by number and stay; its columns pass."""
    table = call.axes("weight")
    call.pin([table[0]], "rows of an embedding table are looked up by number")
    call.result([*call.axes("indices"), table[1]])
