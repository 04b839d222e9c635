"""Reductions: over what is kept, and gone where nothing of what they reduce is kept."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fuzz.masked import Masked, must_be_whole, written_out

Dims = int | list[int] | tuple[int, ...] | None


def over(flags: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """Whether flags are set all over some dims."""
    dims = range(flags.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    for d in sorted((d % flags.dim() for d in dims), reverse=True):
        flags = flags.all(d, keepdim=keepdim)
    return flags


def _dims(x: Masked, dim: Dims) -> Any:
    return tuple(range(x.dim())) if dim is None else dim


@written_out("sum")
def total(x: Masked, dim: Dims = None, keepdim: bool = False) -> Masked:
    """Removed elements add nothing."""
    return Masked(x.zeroed.sum(_dims(x, dim), keepdim), over(x.gone, dim, keepdim))


def count(x: Masked, dim: Dims, keepdim: bool) -> Tensor:
    """How many elements are kept."""
    return x.kept.sum(_dims(x, dim), keepdim)


@written_out("mean")
def mean(x: Masked, dim: Dims = None, keepdim: bool = False) -> Masked:
    """The sum of the kept elements by their number."""
    summed = total(x, dim, keepdim)
    return Masked(summed.data / count(x, dim, keepdim), summed.gone)


@written_out("var")
def var(
    x: Masked,
    dim: Dims = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Masked:
    """The mean square of what is left without the mean, over the kept elements."""
    correction = int(unbiased) if correction is None else correction
    centred = Masked((x.data - mean(x, dim, True).data), x.gone)
    squares = (centred.zeroed**2).sum(_dims(x, dim), keepdim)
    left = (count(x, dim, keepdim) - correction).clamp_min(0)
    return Masked(squares / left, over(x.gone, dim, keepdim))


@written_out("std")
def std(x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """The root of the variance."""
    square = var(x, *args, **kwargs)
    return Masked(square.data.sqrt(), square.gone)


@written_out("var_mean")
def var_mean(x: Masked, dim: Dims = None, **kwargs: Any) -> tuple[Masked, Masked]:
    """Both."""
    return var(x, dim, **kwargs), mean(x, dim, kwargs.get("keepdim", False))


@written_out("amax")
def amax(x: Masked, dim: Dims = None, keepdim: bool = False) -> Masked:
    """The largest kept element."""
    low = x.data.masked_fill(x.gone, -math.inf)
    return Masked(low.amax(_dims(x, dim), keepdim), over(x.gone, dim, keepdim))


@written_out("amin")
def amin(x: Masked, dim: Dims = None, keepdim: bool = False) -> Masked:
    """The smallest kept element."""
    high = x.data.masked_fill(x.gone, math.inf)
    return Masked(high.amin(_dims(x, dim), keepdim), over(x.gone, dim, keepdim))


@written_out("logsumexp")
def logsumexp(x: Masked, dim: Dims, keepdim: bool = False) -> Masked:
    """Removed elements add no exponential."""
    low = x.data.masked_fill(x.gone, -math.inf)
    return Masked(low.logsumexp(_dims(x, dim), keepdim), over(x.gone, dim, keepdim))


@written_out("prod")
def prod(x: Masked, dim: Dims = None, keepdim: bool = False) -> Masked:
    """The product of the kept elements."""
    ones = x.data.masked_fill(x.gone, 1)
    data = ones.prod(dim, keepdim=keepdim) if isinstance(dim, int) else ones.prod()
    return Masked(data, over(x.gone, dim, keepdim))


@written_out("norm", "vector_norm", "linalg_vector_norm", "linalg_norm")
def norm(
    x: Masked,
    ord: Any = 2,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    p: Any = None,
) -> Masked:
    """The norm of the kept elements: zeros do not count."""
    order = ord if p is None else p
    data = torch.linalg.vector_norm(x.zeroed, 2 if order == "fro" else order, dim, keepdim)
    return Masked(data, over(x.gone, dim, keepdim))


@written_out("max")
def largest(x: Masked, *rest: Any, **options: Any) -> Any:
    """Of all, of two tensors, or along a dim, which is then told by position."""
    if rest and not isinstance(rest[0], int):
        return x.maximum(rest[0])
    if not rest and "dim" not in options:
        return amax(x)
    return positional(x.data.max, x, *rest, **options)


@written_out("min")
def least(x: Masked, *rest: Any, **options: Any) -> Any:
    """As `largest`."""
    if not rest and "dim" not in options:
        return amin(x)
    return positional(x.data.min, x, *rest, **options)


def positional(func: Any, x: Masked, dim: int, keepdim: bool = False) -> tuple[Masked, Masked]:
    """Values and positions; nothing along the dim may be gone alone."""
    must_be_whole(x, dim, "max")
    values, places = func(dim, keepdim)
    gone = over(x.gone, dim, keepdim)
    return Masked(values, gone), Masked(places, gone)
