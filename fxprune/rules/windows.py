"""Operators with trailing spatial axes: pooling, interpolation, padding by content."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from fxprune.rules.call import Call
from fxprune.rules.kept import Kept, sliced, spread
from fxprune.rules.registry import rule, rule_by_name

aten = torch.ops.aten

_BY_RANK = {
    1: (
        *(aten.max_pool1d, aten.adaptive_avg_pool1d, aten.adaptive_max_pool1d),
        *(aten.max_pool1d_with_indices, aten.upsample_nearest1d, aten._upsample_nearest_exact1d),
        *(aten.upsample_linear1d, aten.reflection_pad1d, aten.replication_pad1d),
    ),
    2: (
        *(aten.max_pool2d, aten.max_pool2d_with_indices),
        *(aten._adaptive_avg_pool2d, aten.adaptive_avg_pool2d, aten.adaptive_max_pool2d),
        *(aten.fractional_max_pool2d, aten.max_unpool2d),
        *(aten.upsample_nearest2d, aten._upsample_nearest_exact2d, aten.upsample_bilinear2d),
        *(aten.upsample_bicubic2d, aten._upsample_bilinear2d_aa, aten._upsample_bicubic2d_aa),
        *(aten.reflection_pad2d, aten.replication_pad2d),
    ),
    3: (
        *(aten.max_pool3d, aten.max_pool3d_with_indices),
        *(aten._adaptive_avg_pool3d, aten.adaptive_avg_pool3d, aten.adaptive_max_pool3d),
        *(aten.fractional_max_pool3d, aten.max_unpool3d),
        *(aten.upsample_nearest3d, aten._upsample_nearest_exact3d, aten.upsample_trilinear3d),
        *(aten.reflection_pad3d, aten.replication_pad3d),
    ),
}


def _window(call: Call, rank: int) -> None:
    x = call.axes(call.tensors()[0])
    spatial = len(x) - rank
    for operand in call.tensors()[1:]:
        others = call.axes(operand)
        for axis, other in zip(x[:spatial], others, strict=False):
            call.labels.unify(axis, other)
        call.pin(others[spatial:], f"{call.name} slides over this axis")
    call.pin(x[spatial:], f"{call.name} slides over this axis")
    sizes = call.outputs()[0].shape[spatial:]
    call.result([*x[:spatial], *[call.pinned(size) for size in sizes]])


@rule(*_BY_RANK[1])
def window1d(call: Call) -> None:
    """(..., C, L): L stays."""
    _window(call, 1)


@rule_by_name("aten::_upsample_lanczos2d_aa")  # torch 2.13 has none
@rule(*_BY_RANK[2])
def window2d(call: Call) -> None:
    """(..., C, H, W): H and W stay."""
    _window(call, 2)


@rule(*_BY_RANK[3])
def window3d(call: Call) -> None:
    """(..., C, D, H, W): D, H and W stay."""
    _window(call, 3)


def _one_by_one(call: Call) -> dict[int, int]:
    """The dims along which an average moves by one position, without padding; and its width."""
    given = call.arg("kernel_size")
    rank = call.arg("self").dim()
    count = int(call.name[-2])

    def each(value: Any) -> list[int]:
        return [value] * count if isinstance(value, int) else list(value) * (count // len(value))

    kernel, padding = each(given), each(call.arg("padding"))
    stride = each(call.arg("stride") or given)
    dims = zip(range(rank - count, rank), kernel, stride, padding, strict=True)
    return {dim: width for dim, width, step, margin in dims if step == 1 and margin == 0}


def _averaged(call: Call) -> Iterable[tuple[str, int]]:
    return [("self", dim) for dim, width in _one_by_one(call).items() if width > 1]


def _averaged_on_kept(call: Call, kept: Kept) -> object:
    """An average of kept neighbours, at the place of the one in the middle."""
    out, x, widths = sliced(call, kept), call.arg("self"), _one_by_one(call)
    places = {}
    shape = list(x.shape)
    for dim, index in kept["self"].items():
        before = widths[dim] // 2
        after = widths[dim] - 1 - before
        places[dim] = index[before : len(index) - after] - before
        shape[dim] = x.shape[dim] - widths[dim] + 1
    return spread(x.new_empty(shape), places, out)


@rule(
    aten.avg_pool1d,
    aten.avg_pool2d,
    aten.avg_pool3d,
    normalizes=_averaged,
    on_kept=_averaged_on_kept,
)
def average(call: Call) -> None:
    """(..., C, places): an axis along which the average moves one by one may lose positions.

    A local response norm averages over neighbouring channels so. The outcome stands at the position
    in the middle; those at the ends, which never are, stay. All other places stay.
    """
    x, out = call.axes("self"), call.outputs()[0]
    widths, spatial = _one_by_one(call), len(x) - int(call.name[-2])
    result = list(x[:spatial])
    for dim in range(spatial, len(x)):
        axis, size = x[dim], out.shape[dim]
        if dim not in widths:
            call.pin([axis], f"{call.name} slides over this axis")
            result.append(call.pinned(size))
            continue
        before = widths[dim] // 2
        ends = [n for n in range(axis.size) if not before <= n < before + size]
        call.pin([call.labels.take(axis, ends)], f"{call.name} starts or ends here")
        result.append(call.labels.take(axis, slice(before, before + size)))
    call.result(result)


@rule(aten.unfold, aten.unfold_copy)
def unfold(call: Call) -> None:
    """Windows along one axis, which stays; their content is a new last axis."""
    x = list(call.axes("self"))
    if not x:
        call.result([call.pinned(size) for size in call.out.shape])
        return
    dim = call.dim("dimension")
    call.pin([x[dim]], "a window slides over this axis")
    x[dim] = call.pinned(call.out.shape[dim])
    call.result([*x, call.pinned(call.out.shape[-1])])


@rule(aten.im2col)
def im2col(call: Call) -> None:
    """(..., C, H, W) -> (..., C kernel, windows): a channel takes all its rows with it."""
    *rest, channels, height, width = call.axes("self")
    call.pin([height, width], "a window slides over this axis")
    kernel = call.pinned(math.prod(call.arg("kernel_size")))
    windows = call.pinned(call.out.shape[-1])
    call.result([*rest, call.labels.merge([channels, kernel]), windows])


@rule(aten.col2im)
def col2im(call: Call) -> None:
    """(..., C kernel, windows) -> (..., C, H, W): whole channels of the outcome go."""
    *rest, channels, windows = call.axes("self")
    kernel = math.prod(call.arg("kernel_size"))
    rows, columns = call.labels.split(channels, channels.size // kernel, kernel, prefer_rows=True)
    call.pin([columns, windows], "windows are added up at places of an image")
    call.result([*rest, rows, *[call.pinned(size) for size in call.out.shape[-2:]]])


@rule(aten.affine_grid_generator)
def affine_grid(call: Call) -> None:
    """A matrix for each sample becomes a grid for each sample."""
    x = call.axes("theta")
    call.pin(x[1:], "entries of a matrix that affine_grid reads")
    call.result([x[0], *[call.pinned(size) for size in call.out.shape[1:]]])


@rule(aten.grid_sampler_2d, aten.grid_sampler_3d)
def grid_sample(call: Call) -> None:
    """Samples the spatial axes; channels pass."""
    first, *others = call.tensors()
    x = call.axes(first)
    call.pin(x[2:], f"{call.name} samples this axis")
    for operand in others:
        call.labels.unify(x[0], call.axes(operand)[0])
        call.pin(call.axes(operand)[1:], f"{call.name} takes coordinates along this axis")
    call.result([*x[:2], *[call.pinned(size) for size in call.out.shape[2:]]])
