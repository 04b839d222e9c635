"""Operators on the last two axes as a matrix, and other products than those in `contraction`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from fxprune.labels import Axis
from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten
PICKED = "matrices of a grouped product (experts), which routing picks by their numbers"


@rule(aten.addbmm, sums=lambda call: [("batch1", 0), ("batch1", 2)])
def addbmm(call: Call) -> None:
    """(b, n, k) x (b, k, m), summed over b, plus an addend that broadcasts to (n, m)."""
    a, b = call.axes("batch1"), call.axes("batch2")
    call.labels.unify(a[0], b[0])
    call.labels.unify(a[2], b[1])
    product = [a[1], b[2]]
    for axis, other in zip(reversed(call.axes("self")), reversed(product), strict=False):
        if axis.size == other.size != 1:
            call.labels.unify(axis, other)
    call.result(product)


def _operand_dims(call: Call) -> list[dict[int, int]]:
    """For each operand of a trilinear form: common dim -> its own dim."""
    rank = call.arg("i1").dim() + len(call.arg("expand1"))
    own = []
    for number in "123":
        missing = {dim % rank for dim in call.arg(f"expand{number}")}
        present = [dim for dim in range(rank) if dim not in missing]
        own.append({dim: place for place, dim in enumerate(present)})
    return own


def _summed(call: Call) -> Iterable[tuple[str, int]]:
    own = _operand_dims(call)
    for dim in call.arg("sumdim"):
        number = next(n for n, dims in enumerate(own) if dim in dims)
        yield f"i{number + 1}", own[number][dim]


@rule(aten._trilinear, sums=_summed)
def trilinear(call: Call) -> None:
    """Three tensors multiplied, each expanded at some dims, and summed over some (nn.Bilinear)."""
    own = _operand_dims(call)
    axes = [call.axes(f"i{number}") for number in "123"]
    out = []
    for dim in range(len(own[0]) + len(call.arg("expand1"))):
        found = [x[dims[dim]] for x, dims in zip(axes, own, strict=True) if dim in dims]
        wide = [axis for axis in found if axis.size != 1]
        for other in wide[1:]:
            call.labels.unify(wide[0], other)
        if dim not in call.arg("sumdim"):
            out.append(wide[0] if wide else call.pinned(1))
    call.result(out)


@rule(aten._cdist_forward, aten._euclidean_dist, sums=lambda call: [("x1", -1), ("x2", -1)])
def cdist(call: Call) -> None:
    """(..., P, M), (..., R, M) -> (..., P, R): what is zero on both sides adds no distance."""
    a, b = call.axes("x1"), call.axes("x2")
    call.labels.unify(a[-1], b[-1])
    call.result([*_batch(call, a, b), a[-2], b[-2]])


def _batch(call: Call, a: Sequence[Axis], b: Sequence[Axis]) -> list[Axis]:
    """The axes before the last two of both operands, which broadcast."""
    batch = []
    for back in range(max(len(a), len(b)), 2, -1):
        wide = [x[-back] for x in (a, b) if len(x) >= back and x[-back].size != 1]
        for other in wide[1:]:
            call.labels.unify(wide[0], other)
        batch.append(wide[0] if wide else call.pinned(1))
    return batch


@rule(aten._pdist_forward, sums={"self": 1})
def pdist(call: Call) -> None:
    """Distances of all pairs of rows: a row stays, because it is in many pairs."""
    call.pin(call.axes("self")[:1], "pairs of these rows are numbered")
    call.result([call.pinned(call.out.shape[0])])


@rule(aten._grouped_mm, sums={"self": -1})
def grouped_mm(call: Call) -> None:
    """Products of several sizes in one (experts): `offs` cuts an axis into a piece for each.

    1. (T, K) x (G, K, N) -> (T, N): rows are cut. 2. (G, M, K) x (K, T) -> (M, T): columns are.
    3. (M, T) x (T, N) -> (G, M, N): the summed axis is. 4. Batched: nothing is cut.

    What is cut, and the matrices that the pieces meet (experts), stay; all else is as in a product.
    """
    labels = call.labels
    a, b = call.axes("self"), call.axes("mat2")
    labels.unify(a[-1], b[-2])
    cut = "offsets of a grouped product count these positions"
    if len(a) == len(b) == 3:
        labels.unify(a[0], b[0])
        labels.mark_batch(a[0], [*a[1:], *b[1:]])
    elif len(a) == 2:
        call.pin([a[0] if len(b) == 3 else a[1]], cut)
        call.pin(b[:-2], PICKED)
    else:
        call.pin([b[1]], cut)
        call.pin([a[0]], PICKED)
    if call.arg("offs") is not None:
        call.pin(call.axes("offs"), cut)
    if call.arg("bias") is not None:
        labels.unify(call.axes("bias")[-1], b[-1])
        call.pin(call.axes("bias")[:-1], cut)
    lead = [call.pinned(call.out.shape[0])] if len(a) == len(b) == 2 else []
    lead = [a[0]] if len(a) == len(b) == 3 else lead
    call.result([*lead, a[-2], b[-1]])


@rule(
    aten.linalg_inv_ex,
    aten.linalg_cholesky_ex,
    aten.linalg_qr,
    aten.linalg_matrix_exp,
    aten.linalg_lu_factor_ex,
    aten._linalg_det,
    aten._linalg_slogdet,
    aten._linalg_svd,
    aten._linalg_eigh,
    aten.linalg_householder_product,
)
def whole_matrix(call: Call) -> None:
    """Every entry depends on the whole matrix: its two axes stay, the batch passes."""
    first, *others = [call.axes(tensor) for tensor in call.tensors()]
    batch = first[:-2]
    call.pin(first[-2:], f"{call.name} needs the whole matrix")
    for x in others:
        for axis, other in zip(batch, x, strict=False):
            call.labels.unify(axis, other)
        call.pin(x[len(batch) :], f"{call.name} needs the whole matrix")
    for out in call.outputs():
        fits = out.dim() >= len(batch)
        known = batch if fits else []
        call.label(out, [*known, *[call.pinned(size) for size in out.shape[len(known) :]]])


@rule(aten.linalg_solve_triangular)
def solve(call: Call) -> None:
    """A X = B, or X A = B: every unknown depends on the whole of A; right-hand sides pass."""
    a, b = call.axes("self"), list(call.axes("B"))
    unknown = -2 if call.arg("left") else -1
    call.pin([*a[-2:], b[unknown]], "an equation needs all unknowns")
    b[unknown] = call.pinned(b[unknown].size)
    call.result([*_batch(call, a, b), *b[-2:]])


@rule(aten.linalg_cross)
def cross(call: Call) -> None:
    """The three positions of `dim` are mixed; the other axes are one."""
    x, y = list(call.axes("self")), call.axes("other")
    dim = call.dim()
    call.pin([x[dim], y[dim]], "a cross product mixes the three positions")
    out = []
    for axis, other in zip(x, y, strict=True):
        if axis.size == other.size:
            call.labels.unify(axis, other)
        out.append(axis if axis.size != 1 else other)
    call.result(out)
