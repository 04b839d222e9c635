"""Writes at positions, and what is looked up by numbers from data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fuzz.masked import Masked, data_of, masked, meaning, must_be_whole, written_out


@written_out("setitem")
def setitem(x: Masked, key: Any, value: Any) -> None:
    """`x[key] = value`: what was gone of the value is gone there."""
    x.data[data_of(key)] = data_of(value)
    if isinstance(value, Masked):
        x.gone[data_of(key)] = x.gone[data_of(key)] | value.gone


@written_out("embedding")
def embedding(
    index: Any, weight: Masked, padding_idx: int | None = None, *rest: Any, **options: Any
) -> Masked:
    """Rows of a table."""
    must_be_whole(weight, 0, "embedding")
    return Masked(weight.data[data_of(index)], weight.gone[data_of(index)])


@written_out("embedding_bag")
def embedding_bag(index: Any, weight: Masked, *rest: Any, mode: str = "mean", **_: Any) -> Masked:
    """Rows of a table, put together bag by bag."""
    rows = embedding(index, weight)
    bags: Masked = {"mean": rows.mean, "sum": rows.sum, "max": rows.amax}[mode](1)
    return bags


def _spread(x: Masked, dim: int, like: Tensor) -> Tensor:
    """What is gone all along a dim, for every position of the dim."""
    return x.gone.all(dim, keepdim=True).expand(like.shape)


@written_out("scatter_add", "scatter_add_", "index_add", "index_add_")
def added_at(x: Masked, dim: int, index: Any, source: Masked) -> Masked:
    """Entries added at positions of one dim, which must all be there."""
    must_be_whole(x, dim, "scatter_add")
    index = masked(index).data
    add = torch.index_add if index.dim() == 1 and x.dim() > 1 else torch.scatter_add
    data = add(x.data.masked_fill(x.gone, 0), dim, index, source.zeroed)
    gone = x.gone | _spread(source, dim, x.data)
    return Masked(data.masked_fill(gone, torch.nan), gone)


@written_out("index_copy", "scatter")
def copied_to(x: Masked, dim: int, index: Any, source: Masked) -> Masked:
    """Entries written over those at positions of one dim."""
    must_be_whole(x, dim, "index_copy")
    index = masked(index).data
    copy = torch.index_copy if index.dim() == 1 and x.dim() > 1 else torch.scatter
    gone = copy(x.gone, dim, index, source.gone) | _spread(source, dim, x.data)
    return Masked(copy(x.data, dim, index, source.data), gone)


@written_out("index_fill")
def index_fill(x: Masked, dim: int, index: Any, value: float) -> Masked:
    """One number at whole positions."""
    must_be_whole(x, dim, "index_fill")
    return Masked(x.data.index_fill(dim, masked(index).data, value), x.gone)


@meaning("cumsum", "cumprod", "logcumsumexp", "sort", "topk", "argmax", "argmin", "argsort")
def ordered(func: Any, args: Any, kwargs: Any) -> Any:
    """Order counts, so that the whole dim must be there."""
    x: Masked = args[0]
    at = 1 if func.__name__ != "topk" else 2
    dim = kwargs.get("dim", args[at] if len(args) > at else -1)
    must_be_whole(x, dim, func.__name__)
    out = func(*data_of(args), **kwargs)
    gone = x.gone.all(dim, keepdim=True)
    if func.__name__.startswith("arg") and func.__name__ != "argsort":
        return Masked(out, gone.reshape(out.shape).clone())
    parts = [
        Masked(t, gone.expand(t.shape).contiguous())
        for t in ([out] if isinstance(out, Tensor) else out)
    ]
    return parts[0] if isinstance(out, Tensor) else tuple(parts)


@written_out("one_hot")
def one_hot(index: Any, num_classes: int = -1) -> Masked:
    """Numbers as rows of zeros with a one."""
    return Masked.whole(functional.one_hot(data_of(index), num_classes))


@meaning("isin", "bucketize", "searchsorted")
def numbers(func: Any, args: Any, kwargs: Any) -> Masked:
    """Numbers and masks from whole numbers, of which nothing is ever gone."""
    return Masked.whole(func(*data_of(args), **data_of(kwargs)))
