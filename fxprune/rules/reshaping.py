"""View-like operators: the same numbers in another shape."""

from __future__ import annotations

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(
    aten.view.default,
    aten.view_copy.default,
    aten._reshape_copy,
    aten._unsafe_view,
    aten.reshape,
    aten._reshape_alias,
    aten.flatten,
    aten.unflatten,
)
def view(call: Call) -> None:
    """Cut to the common refinement of the two shapes, regrouped."""
    call.result(call.labels.reshape(call.axes("self"), call.out.shape))


@rule(aten.view.dtype, aten.view_copy.dtype)
def view_dtype(call: Call) -> None:
    """The same bytes as another type: the last axis changes with the size of an element."""
    x = call.axes("self")
    if list(call.out.shape) == [axis.size for axis in x]:
        call.result(x)
        return
    call.pin(x[-1:], "its numbers are read as ones of another size")
    call.result([*x[:-1], call.pinned(call.out.shape[-1])])


def _memory(tensor: torch.Tensor) -> tuple[object, ...]:
    """Where the positions of a tensor lie; the stride of a single position does not matter."""
    steps = [step for n, step in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]
    return tensor.shape, steps, tensor.storage_offset()


@rule(aten.as_strided, aten.as_strided_copy)
def as_strided(call: Call) -> None:
    """The operand itself if it lies in memory that way; else everything is pinned."""
    x = call.axes("self")
    if _memory(call.arg("self")) == _memory(call.out):
        call.result(x)
        return
    call.pin(x, "as_strided reads memory, not positions", "use view, permute or slicing")
    call.result([call.pinned(size) for size in call.out.shape])


@rule(aten.permute, aten.permute_copy)
def permute(call: Call) -> None:
    """Axes in another order."""
    x = call.axes("self")
    call.result([x[dim] for dim in call.arg("dims")])


@rule(aten.transpose.int, aten.transpose_copy, aten.swapaxes, aten.swapdims)
def transpose(call: Call) -> None:
    """Two axes swapped."""
    x = list(call.axes(call.tensors()[0]))
    if x:
        a, b = call.args[1] % len(x), call.args[2] % len(x)
        x[a], x[b] = x[b], x[a]
    call.result(x)


@rule(aten.t, aten.t_copy, aten.numpy_T)
def t(call: Call) -> None:
    """Axes in reverse order."""
    call.result(call.axes("self")[::-1])


@rule(aten.mT)
def matrix_t(call: Call) -> None:
    """The last two axes swapped."""
    x = call.axes("self")
    call.result([*x[:-2], *x[:-3:-1]])


@rule(aten.unsqueeze, aten.unsqueeze_copy)
def unsqueeze(call: Call) -> None:
    """A new axis of size 1."""
    x = list(call.axes("self"))
    x.insert(int(call.arg("dim")) % (len(x) + 1), call.pinned(1))
    call.result(x)


@rule(aten.squeeze, aten.squeeze_copy)
def squeeze(call: Call) -> None:
    """Axes of size 1 go."""
    x = call.axes("self")
    dims = call.arg("dim") if call.has("dim") else range(len(x))
    chosen = {d % len(x) for d in ([dims] if isinstance(dims, int) else dims)} if x else set()
    call.result([axis for dim, axis in enumerate(x) if dim not in chosen or axis.size != 1])


@rule(aten.expand, aten.expand_copy, aten.broadcast_to)
def expand(call: Call) -> None:
    """Every copy of an expanded axis can go alone."""
    x = call.axes("self")
    x = [call.pinned(1)] * (call.out.dim() - len(x)) + x
    call.result(
        [
            axis if axis.size == size else call.labels.copies_axis(size)
            for axis, size in zip(x, call.out.shape, strict=True)
        ]
    )


@rule(aten.pixel_shuffle)
def pixel_shuffle(call: Call) -> None:
    """(C r r, H, W) -> (C, H r, W r): whole channels of the output go."""
    x = call.axes("self")
    channels = call.out.shape[-3]
    rows, columns = call.labels.split(x[-3], channels, x[-3].size // channels, prefer_rows=True)
    call.pin([columns, *x[-2:]], "pixel_shuffle makes a spatial axis of it")
    call.result([*x[:-3], rows, *[call.pinned(size) for size in call.out.shape[-2:]]])


@rule(aten.pixel_unshuffle)
def pixel_unshuffle(call: Call) -> None:
    """(C, H r, W r) -> (C r r, H, W): a channel takes all its r r outputs with it."""
    x = call.axes("self")
    call.pin(x[-2:], "pixel_unshuffle makes channels of it")
    inner = call.pinned(call.out.shape[-3] // x[-3].size)
    merged = call.labels.merge([x[-3], inner])
    call.result([*x[:-3], merged, *[call.pinned(size) for size in call.out.shape[-2:]]])


@rule(aten.channel_shuffle, aten.native_channel_shuffle)
def channel_shuffle(call: Call) -> None:
    """(groups, n) on dim 1 transposed to (n, groups)."""
    x = call.axes("self")
    groups: int = call.arg("groups")
    rows, columns = call.labels.split(x[1], groups, x[1].size // groups)
    call.pin([rows], "a half of a channel shuffle")
    call.result([x[0], call.labels.merge([columns, rows]), *x[2:]])
