"""Operators that pick, join, repeat or reorder positions: plain indexing on labels."""

from __future__ import annotations

import numpy as np
import torch

from fxprune.labels import Axis
from fxprune.rules.call import Call, put_axes
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(aten.cat, aten.concat)
def cat(call: Call) -> None:
    """One after another along `dim`; the other axes are one."""
    parts = [t for t in call.arg("tensors") if t.dim() == call.out.dim()]
    axes = [call.axes(part) for part in parts]
    dim = int(call.arg("dim")) % call.out.dim()
    result = []
    for d in range(call.out.dim()):
        if d == dim:
            result.append(call.labels.concat([x[d] for x in axes]))
            continue
        for x in axes[1:]:
            call.labels.unify(axes[0][d], x[d])
        result.append(axes[0][d])
    call.result(result)


@rule(aten.stack)
def stack(call: Call) -> None:
    """A new axis, along which everything else is one."""
    first, *others = [call.axes(part) for part in call.arg("tensors")]
    for x in others:
        for axis, other in zip(first, x, strict=True):
            call.labels.unify(axis, other)
    dim = int(call.arg("dim")) % call.out.dim()
    call.result([*first[:dim], call.pinned(len(others) + 1), *first[dim:]])


def _along(call: Call, dim: int, axis: Axis) -> None:
    x = list(call.axes("self"))
    x[dim] = axis
    call.result(x)


@rule(aten.slice.Tensor, aten.slice_copy)
def slice_(call: Call) -> None:
    """`x[start:end:step]`."""
    dim = call.dim()
    picked = slice(call.arg("start"), call.arg("end"), call.arg("step"))
    _along(call, dim, call.labels.take(call.axes("self")[dim], picked))


@rule(aten.narrow.default, aten.narrow_copy)
def narrow(call: Call) -> None:
    """`length` positions from `start`."""
    dim, start = call.dim(), int(call.arg("start"))
    axis = call.axes("self")[dim]
    start %= axis.size
    _along(call, dim, call.labels.take(axis, slice(start, start + call.arg("length"))))


@rule(aten.select.int, aten.select_copy)
def select(call: Call) -> None:
    """One position, which must stay; the axis goes."""
    x = list(call.axes("self"))
    dim = call.dim()
    index = int(call.arg("index")) % x[dim].size
    call.labels.take(x[dim], [index], call.labels.place.because("a single position is selected"))
    call.result(x[:dim] + x[dim + 1 :])


@rule(aten.unbind, aten.unbind_copy)
def unbind(call: Call) -> None:
    """Every position on its own; the axis goes."""
    x = list(call.axes("self"))
    dim = call.dim()
    call.pin([x[dim]], "the axis is unbound into single positions")
    call.result(x[:dim] + x[dim + 1 :])


@rule(
    aten.split,
    aten.split_with_sizes,
    aten.split_copy,
    aten.split_with_sizes_copy,
    aten.unsafe_split,
    aten.unsafe_split_with_sizes,
    aten.chunk,
    aten.unsafe_chunk,
    aten.tensor_split,
)
def split(call: Call) -> None:
    """Consecutive pieces along `dim`."""
    x = call.axes("self")
    dim = call.dim()
    start = 0
    for out in call.out:
        stop = start + out.shape[dim]
        piece = call.labels.take(x[dim], slice(start, stop))
        put_axes(out, [*x[:dim], piece, *x[dim + 1 :]])
        start = stop


@rule(aten.roll)
def roll(call: Call) -> None:
    """Rotated along axes, or over the flattened tensor if no dim is named."""
    x = list(call.axes("self"))
    shifts, dims = call.arg("shifts"), call.arg("dims")
    if not dims:
        call.pin(x, "the flattened tensor is rolled", "name the dims to roll along")
        dims = []
    for shift, dim in zip(shifts, dims, strict=False):
        x[dim] = call.labels.take(x[dim], np.roll(np.arange(x[dim].size), shift))
    call.result(x)


@rule(aten.flip)
def flip(call: Call) -> None:
    """Reversed along axes."""
    x = list(call.axes("self"))
    for dim in call.arg("dims"):
        x[dim] = call.labels.take(x[dim], slice(None, None, -1))
    call.result(x)


@rule(aten.rot90)
def rot90(call: Call) -> None:
    """A quarter turn swaps two axes and reverses one of them, k times."""
    x = list(call.axes("self"))
    a, b = (dim % len(x) for dim in call.arg("dims"))
    for _ in range(call.arg("k") % 4):
        x[a], x[b] = call.labels.take(x[b], slice(None, None, -1)), x[a]
    call.result(x)


@rule(aten.slice_scatter)
def slice_scatter(call: Call) -> None:
    """`x[start:end:step] = src`: `src` is one with the positions it overwrites.

    Where these are not all, they stay, because the operator names them by number.
    """
    x, source = call.axes("self"), call.axes("src")
    dim = call.dim()
    picked = slice(call.arg("start"), call.arg("end"), call.arg("step"))
    for d, (axis, other) in enumerate(zip(x, source, strict=True)):
        if d == dim and axis.size != other.size:
            call.pin([axis, other], "positions that a slice overwrites are named by number")
        else:
            moved = call.labels.take(axis, picked) if d == dim else axis
            call.labels.unify(moved, other)
    call.result(x)


@rule(aten.select_scatter)
def select_scatter(call: Call) -> None:
    """`x[index] = src`: one position is overwritten, and its axis stays."""
    x = list(call.axes("self"))
    dim = call.dim()
    call.pin([x[dim]], "a single position is overwritten")
    for axis, other in zip(x[:dim] + x[dim + 1 :], call.axes("src"), strict=True):
        call.labels.unify(axis, other)
    call.result(x)


@rule(aten.repeat, aten.tile)
def repeat(call: Call) -> None:
    """The whole tensor again and again; copies go with the original."""
    repeats = list(call.args[1])
    x = list(call.axes("self"))
    x = [call.pinned(1)] * (len(repeats) - len(x)) + x
    repeats = [1] * (len(x) - len(repeats)) + repeats
    call.result(
        [
            call.labels.copies_axis(n)
            if axis.size == 1
            else call.labels.take(axis, np.tile(np.arange(axis.size), n))
            for axis, n in zip(x, repeats, strict=True)
        ]
    )


@rule(aten.repeat_interleave.self_int)
def repeat_interleave(call: Call) -> None:
    """Each position `repeats` times in place; every copy can go alone, at all positions at once.

    As its decomposition, an expand along a new axis that is merged.
    """
    x = list(call.axes("self"))
    dim = call.arg("dim")
    if dim is None:
        x, dim = [call.labels.merge(x) if x else call.pinned(1)], 0
    copies = call.labels.copies_axis(call.arg("repeats"))
    x[dim] = call.labels.merge([x[dim], copies])
    call.result(x)


@rule(aten.constant_pad_nd)
def constant_pad(call: Call) -> None:
    """Constant positions before and after, which can go alone; negative amounts crop."""
    x = list(call.axes("self"))
    pad = call.arg("pad")
    for back, (left, right) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = len(x) - 1 - back
        if left == right == 0:
            continue
        end = x[dim].size - max(-right, 0)
        middle = call.labels.take(x[dim], slice(max(-left, 0), end))
        parts = [
            Axis(left, (call.labels.fresh(left),)) if left > 0 else None,
            middle,
            Axis(right, (call.labels.fresh(right),)) if right > 0 else None,
        ]
        x[dim] = call.labels.concat([part for part in parts if part is not None])
    call.result(x)
