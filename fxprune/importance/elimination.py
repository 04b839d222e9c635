"""Backward elimination: which channel is missed least, when readers make the best of the others.

A reader computes W x, with a second moment C of x. Without the positions U it does best with

    W <- W - W_U (P_UU)^-1 P_U,    P = C^-1,

and then its error has grown by tr(W_U (P_UU)^-1 W_U^T): the optimal brain surgeon (Hassibi and
Stork, Second Order Derivatives for Network Pruning, 1993) for whole columns, of all rows at once.
P and H = W^T W of what is left follow by

    P <- P - Q P_U,    H <- H - Q H_U - H_U^T Q^T + Q H_UU Q^T,    Q = P_U^T (P_UU)^-1,

so a step costs as much as some products of a matrix and a vector, and the steps are exact: growths
add up to the error of the regression on what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Reader:
    """What reads the units of a group: each unit at some positions, as many for each.

    A unit that has fewer positions than others is filled up with some that are read by nobody.

    Args:
        second: the second moment of what it reads, [n, n], positive definite.
        weights: H, [n, n].
        places: the positions of each unit among the n; others are kept.
        scale: what its errors count.
    """

    def __init__(
        self, second: Tensor, weights: Tensor, places: Sequence[NDArray[np.intp]], scale: float
    ) -> None:
        self._scale = scale
        self._size = size = max(map(len, places))
        from_ = torch.from_numpy(np.concatenate(places))
        slots = [unit * size + np.arange(len(each)) for unit, each in enumerate(places)]
        to = torch.from_numpy(np.concatenate(slots))
        inverse = _inverse(second)
        self._inverse = torch.eye(len(places) * size, dtype=second.dtype)
        self._inverse[to[:, None], to] = inverse[from_[:, None], from_]
        self._weights = torch.zeros_like(self._inverse)
        self._weights[to[:, None], to] = weights[from_[:, None], from_]

    def costs(self) -> Tensor:
        """By how much the error grows without each unit, [units]."""
        inverse, weights = self._blocks(self._inverse), self._blocks(self._weights)
        if self._size == 1:
            return self._scale * (weights / inverse).flatten()
        solved: Tensor = torch.linalg.solve(inverse, weights)
        return self._scale * solved.diagonal(dim1=1, dim2=2).sum(1)

    def _blocks(self, matrix: Tensor) -> Tensor:
        """Those on the diagonal, [units, size, size]."""
        count = len(matrix) // self._size
        by_unit = matrix.view(count, self._size, count, self._size)
        return by_unit.diagonal(dim1=0, dim2=2).permute(2, 0, 1)

    def remove(self, unit: int) -> None:
        """Go on without a unit; the others keep their numbers."""
        own = slice(unit * self._size, (unit + 1) * self._size)
        rows, read = self._inverse[own].clone(), self._weights[own]
        factors = torch.linalg.solve(rows[:, own], rows)  # Q^T
        change = read - 0.5 * read[:, own] @ factors
        self._inverse.addmm_(factors.T, rows, alpha=-1)
        self._weights.addmm_(factors.T, change, alpha=-1)
        self._weights.addmm_(change.T, factors, alpha=-1)
        self._inverse[own, own] = torch.eye(self._size, dtype=rows.dtype)  # it was zero

    def keep(self, units: NDArray[np.intp]) -> None:
        """Forget all other units, which are removed; those that stay are numbered anew."""
        own = torch.from_numpy((units[:, None] * self._size + np.arange(self._size)).flatten())
        self._inverse = self._inverse[own[:, None], own]
        self._weights = self._weights[own[:, None], own]


def _inverse(matrix: Tensor) -> Tensor:
    """The inverse of a positive matrix; of one that is singular by rounding, that of one beside."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        least = len(matrix) * torch.finfo(matrix.dtype).eps * float(matrix.diagonal().max())
        return _inverse(matrix + 16 * least * torch.eye(len(matrix), dtype=matrix.dtype))
    found: Tensor = torch.cholesky_inverse(factor)
    return found


def eliminated(
    readers: Sequence[Reader], alone: Tensor
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Take out one unit after another, always the one that is missed least.

    Args:
        readers: what reads the units; they are used up.
        alone: what each unit counts beside that, whatever the others are, [units].

    Returns:
        The units, the one that goes first before the others, and by how much the error grows when
        each goes.
    """
    names = np.arange(len(alone))
    gone = torch.zeros(len(alone), dtype=torch.bool)
    order, growth = np.empty(len(alone), dtype=np.intp), np.empty(len(alone))
    for number in range(len(alone)):
        costs = alone.clone()
        for reader in readers:
            costs += reader.costs()
        costs[gone] = torch.inf
        unit = int(costs.argmin())
        order[number], growth[number] = names[unit], float(costs[unit])
        gone[unit] = True
        for reader in readers:
            reader.remove(unit)
        if int(gone.sum()) > len(gone) // 8:  # matrices get smaller by and by
            left = np.flatnonzero(~gone.numpy())
            for reader in readers:
                reader.keep(left)
            names, alone, gone = names[left], alone[torch.from_numpy(left)], gone[left]
    return order, growth
