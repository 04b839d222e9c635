"""Operators that find positions by value, count values, or look values up in a sorted list."""

from __future__ import annotations

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(
    aten.nonzero,
    aten.nonzero_static,
    aten.masked_select,
    aten._unique,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.histc,
    aten.histogram,
)
def by_value(call: Call) -> None:
    """What comes out depends on all values together: every axis stays.

    There is no finer rule: with a position less, the numbers and even the shape of the outcome
    would be others.
    """
    for tensor in call.tensors():
        call.pin(call.axes(tensor), f"{call.name} goes by the values along this axis")
    for out in call.outputs():
        call.label(out, [call.pinned(size) for size in out.shape])


@rule(aten.searchsorted.Tensor, aten.searchsorted.Scalar)
def searchsorted(call: Call) -> None:
    """Each number is looked up by itself; the sorted list stays, its leading axes pass."""
    boundaries = call.axes("sorted_sequence")
    call.pin(boundaries[-1:], "a sorted list that values are looked up in")
    if call.arg("sorter") is not None:
        call.pin(call.axes("sorter"), "the order of a sorted list")
    value = call.arg("self")
    if not isinstance(value, torch.Tensor):
        call.result([])
        return
    x = call.axes(value)
    for axis, other in zip(x[:-1], boundaries[:-1], strict=False):
        call.labels.unify(axis, other)
    call.result(x)


@rule(aten.bucketize.Tensor, aten.bucketize.Scalar)
def bucketize(call: Call) -> None:
    """As searchsorted, with one list for all."""
    call.pin(call.axes("boundaries"), "a sorted list that values are looked up in")
    value = call.arg("self")
    call.result(call.axes(value) if isinstance(value, torch.Tensor) else [])


@rule(aten.isin)
def isin(call: Call) -> None:
    """Each number is looked up by itself in a set that stays."""
    if call.has("test_elements"):
        call.pin(call.axes("test_elements"), "a set that values are looked up in")
    value = call.arg("elements") if call.has("elements") else None
    call.result(call.axes(value) if isinstance(value, torch.Tensor) else [])


@rule(aten.repeat_interleave.Tensor)
def repeats_to_positions(call: Call) -> None:
    """[2, 0, 1] -> [0, 0, 2]: positions, and so nothing can go."""
    call.pin(call.axes("repeats"), "numbers of repeats become positions")
    call.result([call.pinned(call.out.shape[0])])


@rule(aten.multinomial)
def multinomial(call: Call) -> None:
    """Draws positions of the last axis."""
    x = call.axes("self")
    call.pin(x[-1:], "multinomial returns positions along this axis")
    call.result([*x[:-1], call.pinned(call.out.shape[-1])])
