"""Samples of products of other kinds, and of operators on whole matrices."""

from __future__ import annotations

from itertools import pairwise

import torch

from fxprune.testing import Kept, Operand, Sample
from tests.rules.samples.operands import unknown, x

aten = torch.ops.aten


def small(*shape: int) -> Operand:
    """Labelled whole numbers of low precision, whose products are exact."""
    numbers = torch.arange(torch.Size(shape).numel()) * 7 % 11 - 5
    return unknown(numbers.reshape(shape).bfloat16())


def definite(*shape: int) -> Operand:
    """Labelled symmetric positive matrices."""
    return unknown(torch.eye(shape[-1], dtype=torch.float64).add(0.1).expand(shape).contiguous())


def grouped(a: tuple[int, ...], b: tuple[int, ...], free: int) -> Sample:
    """A grouped product; batched if no operand has to be cut.

    Its kernel takes widths of multiples of eight only, so that plain products stand in for it.
    """
    ends = None if len(a) == len(b) == 3 else ENDS
    args = (small(*a), small(*b), ends)
    op = aten._grouped_mm.default
    return Sample(op, args, free, adapt=sliced_operand, instead=one_by_one)


def sliced_operand(kept: Kept) -> dict[str, object]:
    """The second operand, sliced, and where the groups end."""
    mat2 = kept.arg("mat2")
    for dim, positions in enumerate(kept.inputs["mat2"]):
        mat2 = mat2.index_select(dim, torch.from_numpy(positions))
    return {"mat2": mat2, "ends": kept.arg("offs")}


def one_by_one(a: torch.Tensor, mat2: torch.Tensor, ends: torch.Tensor | None) -> torch.Tensor:
    """A grouped product as one for each group."""
    if ends is None:
        return a @ mat2
    groups = [slice(*ends_) for ends_ in pairwise([0, *ends.tolist()])]
    if a.dim() == mat2.dim():
        return torch.stack([a[:, group] @ mat2[group] for group in groups])
    if a.dim() > mat2.dim():
        return torch.cat([x_ @ mat2[:, g] for x_, g in zip(a, groups, strict=True)], 1)
    return torch.cat([a[g] @ y for y, g in zip(mat2, groups, strict=True)])


ENDS = torch.tensor([8, 16], dtype=torch.int32)

MATRICES = [
    Sample(aten.addbmm.default, (x(2, 4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.addbmm.default, (x(4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4, {"alpha": 2.0}),
    # nn.Bilinear: (batch, in1) x (out, in1, in2) x (batch, in2).
    Sample(
        aten._trilinear.default,
        (x(5, 3), x(2, 3, 4), x(5, 4), [1, 3], [0], [1, 2], [2, 3]),
        5 + 3 + 2 + 4,
    ),
    *(
        Sample(op, (x(*a), x(*b), *rest), free)
        for op, *rest in ((aten._cdist_forward.default, 2.0, None), (aten._euclidean_dist.default,))
        for a, b, free in (
            ((2, 3), (4, 3), 2 + 4 + 3),
            ((5, 2, 3), (5, 4, 3), 5 + 2 + 4 + 3),
            ((5, 6, 2, 3), (5, 6, 4, 3), 5 + 6 + 2 + 4 + 3),
        )
    ),
    Sample(aten._cdist_forward.default, (x(5, 2, 3), x(1, 4, 3), 1.0, None), 5 + 2 + 4 + 3),
    Sample(aten._cdist_forward.default, (x(2, 3), x(4, 3), float("inf"), None), 2 + 4 + 3),
    Sample(aten._pdist_forward.default, (x(4, 3),), 3, pinned="pairs of points are no channels"),
    grouped((16, 8), (2, 8, 24), 8 + 24),
    grouped((2, 24, 8), (8, 16), 24 + 8),
    grouped((8, 16), (16, 24), 8 + 24),
    grouped((2, 24, 8), (2, 8, 16), 2 + 24 + 8 + 16),
    *(
        Sample(op, (definite(4, 3, 3), *rest), 4)
        for op, *rest in (
            (aten.linalg_inv_ex.default,),
            (aten.linalg_cholesky_ex.default,),
            (aten.linalg_qr.default,),
            (aten.linalg_matrix_exp.default,),
            (aten.linalg_lu_factor_ex.default,),
            (aten._linalg_det.default,),
            (aten._linalg_slogdet.default,),
            (aten._linalg_svd.default, True),
            (aten._linalg_eigh.default,),
        )
    ),
    Sample(aten.linalg_householder_product.default, (x(4, 3, 3), x(4, 3)), 4),
    *(
        Sample(
            aten.linalg_solve_triangular.default,
            (definite(*a), x(*b)),
            free,
            {"upper": True, "left": left},
        )
        for a, b, left, free in (
            ((4, 3, 3), (4, 3, 5), True, 4 + 5),
            ((4, 3, 3), (4, 5, 3), False, 4 + 5),
            ((3, 3), (2, 3, 5), True, 2 + 5),
            ((4, 3, 3), (1, 3, 5), True, 4 + 5),
        )
    ),
    Sample(aten.linalg_cross.default, (x(2, 3), x(2, 3)), 2),
    Sample(aten.linalg_cross.default, (x(3, 4), x(3, 1)), 4, {"dim": 0}),
]
