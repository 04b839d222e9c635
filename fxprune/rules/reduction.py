"""Reductions: the reduced axes go, the others stay."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fxprune.rules.call import Call
from fxprune.rules.kept import sliced
from fxprune.rules.registry import rule

aten = torch.ops.aten


def reduced_dims(call: Call) -> list[int]:
    """The dims that a reduction takes away, counted from the front; all if it names none.

    An empty list means all dims too, but for `any` and `all`.
    """
    rank = call.arg("self").dim()
    dims = call.arg("dim") if call.has("dim") else None
    if dims is None or (dims == [] and call.name not in ("any", "all")):
        return list(range(rank))
    return [d % rank for d in ([dims] if isinstance(dims, int) else dims)] if rank else []


def _operand(call: Call) -> Iterable[tuple[str, int]]:
    return [("self", dim) for dim in reduced_dims(call)]


def _drop(call: Call) -> None:
    dims = reduced_dims(call)
    keep = call.has("keepdim") and call.arg("keepdim")
    axes = []
    for dim, axis in enumerate(call.axes("self")):
        if dim not in dims:
            axes.append(axis)
        elif keep:
            axes.append(call.pinned(1))
    call.result(axes)


@rule(aten.sum, aten.nansum, sums=_operand)
def total(call: Call) -> None:
    """A sum does not see zeroed positions."""
    _drop(call)


@rule(
    aten.mean,
    aten.amax,
    aten.amin,
    aten.max.default,
    aten.min.default,
    aten.var,
    aten.std,
    aten.var_mean,
    aten.std_mean,
    aten.linalg_vector_norm,
    aten.norm,
    aten.logsumexp,
    aten.prod,
    aten.any,
    aten.all,
    aten.aminmax,
    normalizes=_operand,
    on_kept=sliced,
)
def across(call: Call) -> None:
    """Looks across the reduced axes in another way than summing."""
    _drop(call)


@rule(
    aten.max.dim,
    aten.min.dim,
    aten.argmax,
    aten.argmin,
    aten.median,
    aten.nanmedian,
    aten.mode,
    aten.kthvalue,
)
def positional(call: Call) -> None:
    """Tells positions along the reduced axes, so that these must keep their numbers."""
    call.pin(
        [call.axes("self")[dim] for dim in reduced_dims(call)],
        f"{call.name} returns positions along this axis",
        "use amax or amin if only the values are needed",
    )
    _drop(call)


@rule(aten.cumsum, aten.cumprod, aten.cummax, aten.cummin, aten.logcumsumexp, aten.sort, aten.topk)
def ordered(call: Call) -> None:
    """Mixes positions in their order: the axis stays."""
    x = list(call.axes("self"))
    if x:
        dim = call.dim()
        call.pin([x[dim]], f"{call.name} runs along this axis")
        x[dim] = call.pinned(call.outputs()[0].shape[dim])
    call.result(x)
