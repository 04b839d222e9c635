"""Functions of places: pooling, interpolation, Fourier transforms. Channels pass."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from fuzz.masked import Masked, data_of, meaning, must_be_whole, written_out
from fuzz.meanings.movement import per_channel


@meaning(
    *(f"{kind}_pool{rank}d" for kind in ("avg", "max", "lp") for rank in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3)),
    *("interpolate", "grid_sample", "rfft2", "irfft2", "fft2", "fft_rfft2", "fft_irfft2"),
    *("boolean_dispatch", "fn", "upsample", "max_pool2d_with_indices"),
)
def windowed(func: Any, args: Any, kwargs: Any) -> Masked:
    """All places of a channel are gone or none."""
    first = args[0] if args else kwargs["input"]
    size = kwargs.get("output_size", args[1] if len(args) > 1 else None)
    is_average = func.__name__.startswith("adaptive_avg")
    if is_average and all(n == 1 for n in (size if isinstance(size, (tuple, list)) else [size])):
        places = tuple(range(-int(func.__name__[-2]), 0))
        average: Masked = first.mean(places, keepdim=True)  # what is gone does not count
        return average
    for dim in range(2, first.dim()):
        must_be_whole(first, dim, func.__name__)
    out = func(*data_of(args), **data_of(kwargs))
    return Masked(out, per_channel(first).expand(out.shape).contiguous())


@written_out("affine_grid")
def affine_grid(theta: Masked, size: Any, align_corners: bool | None = None) -> Masked:
    """Coordinates from a matrix, of which nothing may be gone."""
    must_be_whole(theta, 1, "affine_grid")
    return Masked.whole(functional.affine_grid(theta.data, size, align_corners))


@written_out("fold")
def fold(x: Masked, output_size: Any, kernel_size: Any, **options: Any) -> Masked:
    """Windows added up; the elements of a channel's windows are gone or none."""
    must_be_whole(x, 2, "fold")
    data = functional.fold(x.data, output_size, kernel_size, **options)
    columns = x.gone.any(2).view(x.shape[0], data.shape[1], -1)
    gone = columns.any(2).view(*columns.shape[:2], 1, 1)
    return Masked(data.masked_fill(gone, torch.nan), gone.expand(data.shape).contiguous())


@written_out("local_response_norm")
def local_response_norm(x: Masked, size: int, *_: Any, **__: Any) -> Masked:
    """Neighbours among the kept channels count; a channel may have lost some of its places."""
    kept = torch.nonzero(~x.gone[0].flatten(1).all(1))[:, 0]
    data = torch.full_like(x.data, torch.nan)
    data[:, kept] = functional.local_response_norm(x.data[:, kept], size, *_, **__)
    return Masked(data, x.gone)
