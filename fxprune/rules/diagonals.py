"""Diagonals and triangles: operators that compare the numbers of rows and columns."""

from __future__ import annotations

import torch

from fxprune.labels import Axis
from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(aten.tril, aten.triu)
def triangle(call: Call) -> None:
    """Zeros above or below a diagonal: rows and columns stay."""
    x = call.axes("self")
    call.pin(x[-2:], f"{call.name} compares the numbers of rows and columns")
    call.result(x)


@rule(aten.diagonal, aten.diagonal_copy)
def diagonal(call: Call) -> None:
    """Two axes become a last one.

    1. The main diagonal of a square: rows and columns are one.
    2. Any other: a row has a column of another number, so that both stay.
    """
    x = list(call.axes("self"))
    a, b = _dims(call, len(x))
    one = _one_axis(call, x[a], x[b], call.out.shape[-1])
    call.result([*(axis for dim, axis in enumerate(x) if dim not in (a, b)), one])


def _dims(call: Call, rank: int) -> tuple[int, int]:
    return call.arg("dim1") % rank, call.arg("dim2") % rank


def _one_axis(call: Call, rows: Axis, columns: Axis, size: int) -> Axis:
    if rows.size == columns.size and call.arg("offset") == 0:
        call.labels.unify(rows, columns)
        return rows
    call.pin([rows, columns], "a diagonal that is not the main one of a square")
    return call.pinned(size)


@rule(aten.diag_embed)
def diag_embed(call: Call) -> None:
    """The last axis becomes the rows and the columns of a square; off the main one it stays."""
    *rest, last = call.axes("self")
    a, b = _dims(call, call.out.dim())
    if call.arg("offset"):
        call.pin([last], "a diagonal that is not the main one of a square")
        last = call.pinned(call.out.shape[a])
    out = list(rest)
    for dim in sorted((a, b)):
        out.insert(dim, last)
    call.result(out)


@rule(aten.diagonal_scatter)
def diagonal_scatter(call: Call) -> None:
    """A diagonal overwritten, as a view of it would be."""
    x, source = list(call.axes("self")), call.axes("src")
    a, b = _dims(call, len(x))
    one = _one_axis(call, x[a], x[b], source[-1].size)
    rest = [axis for dim, axis in enumerate(x) if dim not in (a, b)]
    for axis, other in zip([*rest, one], source, strict=True):
        call.labels.unify(axis, other)
    call.result(x)
