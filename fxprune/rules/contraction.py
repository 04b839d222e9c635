"""Products that sum over an axis of both operands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

if TYPE_CHECKING:
    from fxprune.labels import Axis

aten = torch.ops.aten


def _couple_addend(call: Call, addend: str, product: list[Axis]) -> None:
    """Unify a broadcast addend with the product's axes, aligned on the right."""
    for axis, other in zip(reversed(call.axes(addend)), reversed(product), strict=False):
        if axis.size == other.size != 1:
            call.labels.unify(axis, other)


@rule(aten.mm, sums={"self": 1})
def mm(call: Call) -> None:
    """(n, k) x (k, m): the k axes are one."""
    a, b = call.axes("self"), call.axes("mat2")
    call.labels.unify(a[1], b[0])
    call.result([a[0], b[1]])


@rule(aten.addmm, sums={"mat1": 1})
def addmm(call: Call) -> None:
    """As mm, plus an addend that broadcasts."""
    a, b = call.axes("mat1"), call.axes("mat2")
    call.labels.unify(a[1], b[0])
    _couple_addend(call, "self", [a[0], b[1]])
    call.result([a[0], b[1]])


@rule(aten.bmm, sums={"self": 2})
def bmm(call: Call) -> None:
    """(b, n, k) x (b, k, m): the batch axes are one, and so are the k axes."""
    a, b = call.axes("self"), call.axes("mat2")
    _batched(call, a, b)
    call.result([a[0], a[1], b[2]])


@rule(aten.baddbmm, sums={"batch1": 2})
def baddbmm(call: Call) -> None:
    """As bmm, plus an addend that broadcasts."""
    a, b = call.axes("batch1"), call.axes("batch2")
    _batched(call, a, b)
    _couple_addend(call, "self", [a[0], a[1], b[2]])
    call.result([a[0], a[1], b[2]])


def _batched(call: Call, a: list[Axis], b: list[Axis]) -> None:
    for axes in (a, b):  # before one pins the other: pinned heads are heads, too
        call.labels.mark_batch(axes[0], axes[1:])
    call.labels.unify(a[0], b[0])
    call.labels.unify(a[2], b[1])


@rule(aten.mv, sums={"self": 1})
def mv(call: Call) -> None:
    """(n, k) x (k)."""
    a, b = call.axes("self"), call.axes("vec")
    call.labels.unify(a[1], b[0])
    call.result([a[0]])


@rule(aten.dot, aten.vdot, sums={"self": 0})
def dot(call: Call) -> None:
    """(k) x (k)."""
    other = call.axes("tensor" if call.has("tensor") else "other")
    call.labels.unify(call.axes("self")[0], other[0])
    call.result([])


@rule(aten.linear, sums={"input": -1})
def linear(call: Call) -> None:
    """(..., k) x (m, k), plus a bias (m)."""
    x, weight = call.axes("input"), call.axes("weight")
    call.labels.unify(x[-1], weight[1])
    if call.arg("bias") is not None:
        _couple_addend(call, "bias", [weight[0]])
    call.result([*x[:-1], weight[0]])
