"""Operators with trailing spatial axes: pooling, interpolation, padding by content."""

from __future__ import annotations

import math

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule, rule_by_name

aten = torch.ops.aten

_BY_RANK = {
    1: (
        *(aten.avg_pool1d, aten.max_pool1d, aten.adaptive_avg_pool1d, aten.adaptive_max_pool1d),
        *(aten.max_pool1d_with_indices, aten.upsample_nearest1d, aten._upsample_nearest_exact1d),
        *(aten.upsample_linear1d, aten.reflection_pad1d, aten.replication_pad1d),
    ),
    2: (
        *(aten.avg_pool2d, aten.max_pool2d, aten.max_pool2d_with_indices),
        *(aten._adaptive_avg_pool2d, aten.adaptive_avg_pool2d, aten.adaptive_max_pool2d),
        *(aten.fractional_max_pool2d, aten.max_unpool2d),
        *(aten.upsample_nearest2d, aten._upsample_nearest_exact2d, aten.upsample_bilinear2d),
        *(aten.upsample_bicubic2d, aten._upsample_bilinear2d_aa, aten._upsample_bicubic2d_aa),
        *(aten.reflection_pad2d, aten.replication_pad2d),
    ),
    3: (
        *(aten.avg_pool3d, aten.max_pool3d, aten.max_pool3d_with_indices),
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
