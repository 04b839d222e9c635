"""Samples of products."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from tests.rules.samples.operands import x

aten = torch.ops.aten

CONTRACTION = [
    Sample(aten.mm.default, (x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(4), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(2, 4), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(2, 1), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(4), x(2, 3), x(3, 4)), 9, {"beta": 0.5, "alpha": 2.0}),
    Sample(aten.bmm.default, (x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.baddbmm.default, (x(5, 2, 4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.baddbmm.default, (x(5, 1, 4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.mv.default, (x(2, 3), x(3)), 2 + 3),
    Sample(aten.dot.default, (x(3), x(3)), 3),
    Sample(aten.vdot.default, (x(3), x(3)), 3),
    Sample(aten.linear.default, (x(2, 3), x(4, 3)), 2 + 3 + 4),
    Sample(aten.linear.default, (x(2, 5, 3), x(4, 3), x(4)), 2 + 5 + 3 + 4),
]
