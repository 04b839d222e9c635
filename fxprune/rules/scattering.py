"""Operators that write at positions which a tensor names.

The axis that is written to always stays: its positions are numbers in the index tensor.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from fxprune.rules.call import Call
from fxprune.rules.indexing import Lookup, lies_on_first
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from fxprune.labels import Axis

aten = torch.ops.aten
WRITTEN = "written at positions that a tensor names"
OVERWRITES = "each position overwrites another tensor's, so none can be left out"


def _adds(call: Call) -> bool:
    """Whether entries are added to what is there, so that zeros do nothing."""
    by = call.arg("reduce") if call.has("reduce") else None
    return call.has("src") and (call.name == "scatter_add" or by in ("add", "sum"))


def _added(call: Call) -> Iterable[tuple[str, int]]:
    return [("src", call.dim())] if _adds(call) and call.arg("self").dim() else []


@rule(aten.scatter, aten.scatter_add, aten.scatter_reduce.two, sums=_added)
def scatter(call: Call) -> None:
    """The index lies on the first positions of both tensors, but for the axis written to.

    Along that axis entries can go if they are added; in every other way none can.
    """
    x, index = call.axes("self"), call.axes("index")
    source = call.axes("src") if call.has("src") else None
    for d, axis in enumerate(x):
        if source is not None:
            lies_on_first(call, index[d], source[d])
        if d != call.dim():
            lies_on_first(call, index[d], axis)
            continue
        call.pin([axis], WRITTEN)
        if not _adds(call):
            call.pin([index[d]], OVERWRITES)
    call.result(x)


def _source(call: Call) -> Iterable[tuple[str, int]]:
    return [("source", call.dim())] if call.arg("self").dim() and call.arg("source").dim() else []


@rule(aten.index_add, sums=_source)
def index_add(call: Call) -> None:
    """Slices of one tensor added to those of another; a slice of zeros adds nothing."""
    _slices(call)


@rule(aten.index_copy, aten.index_reduce)
def index_copy(call: Call) -> None:
    """Slices of one tensor written over those of another."""
    if call.arg("source").dim():
        call.pin([call.axes("source")[call.dim()]], OVERWRITES)
    _slices(call)


def _slices(call: Call) -> None:
    x, source, index = call.axes("self"), call.axes("source"), call.axes("index")
    for d, (axis, other) in enumerate(zip(x, source, strict=False)):
        if d != call.dim():
            call.labels.unify(axis, other)
        else:
            call.pin([axis], WRITTEN)
            for positions in index:
                call.labels.unify(positions, other)
    call.result(x)


@rule(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(call: Call) -> None:
    """One number written to whole slices."""
    x = call.axes("self")
    call.pin([*x[call.dim() : call.dim() + 1], *call.axes("index")], WRITTEN)
    call.result(x)


@rule(aten.index_put.default, aten._unsafe_index_put.default, aten._index_put_impl)
def index_put(call: Call) -> None:
    """`x[i, :, j] = values`: the indexed axes stay, on both sides; the others are one."""
    x, values = call.axes("self"), call.axes("values")
    lookup = Lookup.of(call)
    call.pin([x[dim] for dim in lookup.dims], WRITTEN)
    for tensor in lookup.tensors:
        call.pin(call.axes(tensor), WRITTEN)
    rest = [axis for dim, axis in enumerate(x) if dim not in lookup.dims]
    after, width = rest[lookup.first :], lookup.width
    head = values[: max(len(values) - len(after), 0)]
    call.pin(head[len(head) - width :] if width < len(head) else head, OVERWRITES)
    _same(call, after, values)
    _same(call, rest[: lookup.first], head[: max(len(head) - width, 0)])
    call.result(x)


def _same(call: Call, axes: list[Axis], others: list[Axis]) -> None:
    """Aligned on the right, axes are one but for those that broadcast."""
    for axis, other in zip(reversed(axes), reversed(others), strict=False):
        if axis.size == other.size != 1:
            call.labels.unify(axis, other)


@rule(aten.put)
def put(call: Call) -> None:
    """Written at positions of the flattened tensor: all of it stays."""
    for tensor in call.tensors():
        call.pin(call.axes(tensor), "written at positions of the flattened tensor")
    call.result(call.axes("self"))


@rule(aten.masked_scatter)
def masked_scatter(call: Call) -> None:
    """Entries of `source`, row by row, go where the mask is true.

    1. Along trailing dims on which the mask was only expanded (it has stride 0 or one position),
       whole rows are taken: these axes are one.
    2. On all other dims the mask counts entries, and everything stays.
    """
    x, source, mask = call.arg("self"), call.arg("source"), call.arg("mask")
    alike = 0
    while alike < min(x.dim(), source.dim() - 1) and _is_expanded(mask, alike + 1, x, source):
        alike += 1
    for tensor in (x, source, mask):
        axes = call.axes(tensor)
        call.pin(axes[: max(len(axes) - alike, 0)], "a mask counts entries along this axis")
    rows = call.axes(x)[x.dim() - alike :]
    _same(call, rows, call.axes(source))
    _same(call, rows, call.axes(mask))
    call.result(call.axes(x))


def _is_expanded(mask: torch.Tensor, back: int, x: torch.Tensor, source: torch.Tensor) -> bool:
    """Whether the mask is the same all along a dim, and rows of `source` are as long as those."""
    constant = mask.dim() < back or mask.shape[-back] == 1 or mask.stride(-back) == 0
    return constant and source.shape[-back] == x.shape[-back]
