"""Samples of operators that compare the numbers of rows and columns."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from tests.rules.samples.operands import x

aten = torch.ops.aten

DIAGONALS = [
    Sample(aten.tril.default, (x(2, 3, 4),), 2),
    Sample(aten.triu.default, (x(3, 4), 1), 0),
    *(
        Sample(op, args, free)
        for op in (aten.diagonal.default, aten.diagonal_copy.default)
        for args, free in (
            ((x(3, 3),), 3),
            ((x(2, 3, 3), 0, 1, 2), 2 + 3),
            ((x(3, 2, 3), 0, -1, 0), 2 + 3),
            ((x(2, 3, 3), 1, 1, 2), 2),
            ((x(2, 3, 4), 0, 1, 2), 2),
        )
    ),
    Sample(aten.diag_embed.default, (x(2, 3),), 2 + 3),
    Sample(aten.diag_embed.default, (x(2, 3), 0, 0, 2), 2 + 3),
    Sample(aten.diag_embed.default, (x(2, 3), 0, -1, 0), 2 + 3),
    Sample(aten.diag_embed.default, (x(2, 3), -1), 2),
    Sample(aten.diagonal_scatter.default, (x(2, 3, 3), x(2, 3), 0, 1, 2), 2 + 3),
    Sample(aten.diagonal_scatter.default, (x(3, 3), x(2), 1), 0),
]
