"""Normalizations: batch, layer, group and instance norm, softmax."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from fxprune.rules.call import Call, put_axes
from fxprune.rules.kept import Kept, sliced, spread, take
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from fxprune.labels import Axis

aten = torch.ops.aten
BATCH_NORMS = (
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_no_training,
    aten._batch_norm_no_update,
    aten._batch_norm_with_update,
    aten.cudnn_batch_norm,
    aten.miopen_batch_norm,
)


def _couple(call: Call, axis: Axis, *names: str) -> None:
    """Unify a channel axis with the vectors of that length among the arguments."""
    present = [name for name in names if call.has(name) and call.arg(name) is not None]
    vectors = [call.axes(name) for name in present]
    fitting = [v[0] for v in vectors if len(v) == 1 and v[0].size == axis.size]
    call.labels.unify_with_each(axis, fitting)


def _first_like(call: Call, axes: list[Axis], statistics: list[Axis]) -> None:
    """The first output is labelled as the input, saved statistics as `statistics`."""
    first, *saved = call.outputs()
    put_axes(first, axes)
    for out in saved:
        fits = [axis.size for axis in statistics] == list(out.shape)
        put_axes(out, statistics if fits else [call.pinned(size) for size in out.shape])


def _batch_norm_dims(call: Call) -> Iterable[tuple[str, int]]:
    """In training the statistics run over all axes but the channels."""
    training = call.name == "_batch_norm_with_update"
    if call.has("training"):
        training = call.arg("training")
    return [("input", d) for d in range(call.arg("input").dim()) if d != 1] if training else []


def _spread_first(call: Call, kept: Kept) -> object:
    """The first output is put back to full size, the saved statistics are as they come."""
    out, *statistics = sliced(call, kept)
    return spread(call.arg("input"), kept["input"], out), *statistics


@rule(*BATCH_NORMS, normalizes=_batch_norm_dims, on_kept=_spread_first)
def batch_norm(call: Call) -> None:
    """Dim 1 is the channel axis; weight, bias and running statistics have one entry for each."""
    x = call.axes(call.args[0])
    _couple(call, x[1], "weight", "bias", "running_mean", "running_var")
    _first_like(call, x, [x[1]])


def _layer_norm_dims(call: Call) -> Iterable[tuple[str, int]]:
    rank, count = call.arg("input").dim(), len(call.arg("normalized_shape"))
    return [("input", dim) for dim in range(rank - count, rank)]


def _layer_norm_kept(call: Call, kept: Kept) -> object:
    x, index = call.arg("input"), kept["input"]
    first = x.dim() - len(call.arg("normalized_shape"))
    part = take(x, index)
    changes = {"input": part, "normalized_shape": list(part.shape[first:])}
    for name in ("weight", "bias"):
        if call.arg(name) is not None:
            changes[name] = take(call.arg(name), index, shift=first)
    args, kwargs = call.replaced(**changes)
    out, *statistics = call.op(*args, **kwargs)
    return spread(x, index, out), *statistics


@rule(aten.native_layer_norm, normalizes=_layer_norm_dims, on_kept=_layer_norm_kept)
def layer_norm(call: Call) -> None:
    """Statistics over the trailing `normalized_shape` axes; weight and bias span these."""
    x = call.axes("input")
    tail = x[len(x) - len(call.arg("normalized_shape")) :]
    for name in ("weight", "bias"):
        if call.arg(name) is not None:
            for axis, other in zip(tail, call.axes(name), strict=True):
                call.labels.unify(axis, other)
    _first_like(call, x, x[: len(x) - len(tail)] + [call.pinned(1) for _ in tail])


def _group_norm_dims(call: Call) -> Iterable[tuple[str, int]]:
    """All axes but the batch; channels only if a group has more than one."""
    first = 1 if call.arg("group") != call.arg("C") else 2
    return [("input", dim) for dim in range(first, call.arg("input").dim())]


def _group_norm_kept(call: Call, kept: Kept) -> object:
    """Each of the original's groups by itself, on what is kept of it.

    So a removal that would move channels to another group differs from a smaller group norm.
    """
    x, index = call.arg("input"), kept["input"]
    size = call.arg("C") // call.arg("group")
    channels = index.get(1, torch.arange(call.arg("C"), device=x.device))
    members = [channels[channels // size == g] for g in range(call.arg("group"))]
    outs = [_one_group(call, {**index, 1: own}) for own in members if len(own)]
    whole = sum(out for out, *_ in outs)
    return whole, *(
        torch.cat(statistic, 1) for statistic in zip(*(s for _, *s in outs), strict=True)
    )


def _one_group(call: Call, index: Mapping[int, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """A group norm of some channels as one group, at their places in a tensor of zeros."""
    x = call.arg("input")
    part = take(x, index)
    changes = {"input": part, "C": part.shape[1], "HxW": math.prod(part.shape[2:]), "group": 1}
    for name in ("weight", "bias"):
        if call.arg(name) is not None:
            changes[name] = take(call.arg(name), {1: index[1]}, shift=1)
    args, kwargs = call.replaced(**changes)
    out, *statistics = call.op(*args, **kwargs)
    return spread(x, index, out), *statistics


@rule(aten.native_group_norm, normalizes=_group_norm_dims, on_kept=_group_norm_kept)
def group_norm(call: Call) -> None:
    """Dim 1 is read as (group, channel of the group): every group keeps equally many."""
    x = call.axes("input")
    group: int = call.arg("group")
    rows, _ = call.labels.split(x[1], group, x[1].size // group)
    if group != x[1].size:
        call.pin([rows], "a group of a group norm", "remove channels of each group instead")
    _couple(call, x[1], "weight", "bias")
    _first_like(call, x, [x[0], rows])


def _one_dim(call: Call) -> Iterable[tuple[str, int]]:
    return [("self", call.dim())] if call.arg("self").dim() else []


@rule(aten._softmax, aten._safe_softmax, aten._log_softmax, normalizes=_one_dim)
def softmax(call: Call) -> None:
    """Looks across one axis, keeps every position."""
    call.result(call.axes("self"))
