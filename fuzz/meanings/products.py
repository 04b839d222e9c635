"""Products: sums over what is kept on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fuzz.masked import (
    ContradictionError,
    Masked,
    data_of,
    masked,
    meaning,
    must_be_whole,
    sums_nothing,
    union,
    written_out,
)

Multiply = Callable[..., Tensor]


def product(multiply: Multiply, *factors: Any) -> Masked:
    """A sum of products, one element of each factor in each.

    Running it on ones for kept elements counts what is summed. An element of the result is gone if
    a factor has nothing for it. Where it is kept, two factors must agree on what they sum over.
    """
    parts = [masked(factor) for factor in factors]
    data = multiply(*(part.zeroed for part in parts))
    if sums_nothing(*parts):
        return Masked.whole(data)
    ones = [torch.ones_like(part.data) for part in parts]
    alone = [
        multiply(*(part.kept if i == j else ones[j] for j, part in enumerate(parts)))
        for i in range(len(parts))
    ]
    gone = torch.stack([counted == 0 for counted in alone]).any(0)
    if len(parts) == 2:
        both = multiply(*(part.kept for part in parts))
        for counted in alone:
            if ((counted != both) & ~gone).any():
                raise ContradictionError("the factors of a product have lost different elements")
    return Masked(data.masked_fill(gone, torch.nan), gone)


@written_out("matmul", "bmm", "mm", "mv", "dot")
def matmul(a: Any, b: Any) -> Masked:
    """A matrix product."""
    return product(torch.matmul, a, b)


@written_out("rmatmul")
def rmatmul(b: Any, a: Any) -> Masked:
    """The same, from the right."""
    return product(torch.matmul, a, b)


@written_out("linear")
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x W' + b."""
    out: Any = product(functional.linear, x, weight)
    return out if bias is None else out + bias


@written_out("einsum")
def einsum(equation: str, *factors: Any) -> Masked:
    """Einstein's sum."""
    given = factors[0] if len(factors) == 1 and isinstance(factors[0], (list, tuple)) else factors
    return product(lambda *parts: torch.einsum(equation, *parts), *given)


@written_out("bilinear")
def bilinear(a: Any, b: Any, weight: Any, bias: Any = None) -> Any:
    """a W b + c."""
    out: Any = product(lambda *p: torch.einsum("...i,oij,...j->...o", *p), a, weight, b)
    return out if bias is None else out + bias


@written_out("addmm", "baddbmm", "addmv")
def added(addend: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """A matrix product and an addend."""
    out: Any = product(torch.matmul, a, b)
    return addend * beta + out * alpha


@written_out("addbmm")
def addbmm(addend: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    """Matrix products added up over the batch, and an addend."""
    out: Any = product(lambda x, y: torch.einsum("bij,bjk->ik", x, y), a, b)
    return addend * beta + out * alpha


@written_out("tensordot")
def tensordot(a: Any, b: Any, dims: Any = 2, out: Any = None) -> Masked:
    """Dims summed over, pair by pair."""
    return product(lambda x, y: torch.tensordot(x, y, dims), a, b)


@written_out("outer")
def outer(a: Any, b: Any) -> Masked:
    """Every element with every other."""
    return product(torch.outer, a, b)


@written_out("cdist")
def cdist(a: Masked, b: Masked, p: float = 2.0, **_: Any) -> Any:
    """Distances of all pairs of rows."""
    rows = a.unsqueeze(-2) - b.unsqueeze(-3)
    return rows.norm(p, -1)


@meaning("linalg_cross")
def cross(func: Any, args: Any, kwargs: Any) -> Masked:
    """Vectors of three along one dim, of which some may be gone."""
    for x in args:
        must_be_whole(x, kwargs.get("dim", -1), func.__name__)
    data = func(*(x.zeroed for x in args), **kwargs)
    gone = union(data.shape, args)
    return Masked(data.masked_fill(gone, torch.nan), gone)


@meaning(
    "linalg_inv",
    "linalg_matrix_exp",
    "linalg_det",
    "det",
    "linalg_solve_triangular",
)
def whole_matrix(func: Any, args: Any, kwargs: Any) -> Masked:
    """Functions of whole matrices; right-hand sides may have lost columns."""
    *matrices, last = args
    solved = func.__name__ == "linalg_solve_triangular"
    for x in matrices if solved else args:
        if x.gone.any():
            raise ContradictionError(f"{func.__name__} needs the whole matrix")
    if not solved:
        return Masked.whole(func(*data_of(args), **kwargs))
    must_be_whole(last, -2, func.__name__)
    data = func(*data_of(matrices), last.zeroed, **kwargs)
    return Masked(data, last.gone.all(-2, keepdim=True).expand(data.shape).contiguous())
