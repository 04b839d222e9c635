"""Samples of operators that go by values."""

from __future__ import annotations

import torch

from fxprune.testing import Operand, Sample
from tests.rules.samples.operands import index, positive, unknown, x

aten = torch.ops.aten
VALUES = "values that are looked for are no channels"
SORTED = torch.tensor([-1.0, 0.0, 0.5, 1.0], dtype=torch.float64)


def ascending(*shape: int) -> Operand:
    """Labelled numbers in ascending order along the last axis."""
    return unknown(SORTED[: shape[-1]].expand(shape).contiguous())


BY_VALUE = [
    Sample(aten.histc.default, (x(5), 4), 0),
    Sample(aten.nonzero_static.default, (x(2, 3),), 0, {"size": 4}),
    Sample(aten.searchsorted.Tensor, (ascending(4), x(2, 3)), 2 + 3),
    Sample(aten.searchsorted.Tensor, (ascending(2, 4), x(2, 3)), 2 + 3, {"right": True}),
    Sample(aten.searchsorted.Tensor, (ascending(4), x(3)), 3, {"sorter": torch.arange(4)}),
    Sample(aten.searchsorted.Scalar, (ascending(4), 0.3), 0),
    Sample(aten.bucketize.Tensor, (x(2, 3), ascending(4)), 2 + 3),
    Sample(aten.bucketize.Scalar, (0.3, ascending(4)), 0),
    Sample(aten.isin.Tensor_Tensor, (x(2, 3), x(4)), 2 + 3, pinned=VALUES),
    Sample(aten.isin.Tensor_Scalar, (x(2, 3), 0.3), 2 + 3),
    Sample(aten.isin.Scalar_Tensor, (0.3, x(4)), 0, pinned=VALUES),
    Sample(aten.multinomial.default, (positive(2, 3), 2), 2, random=True),
    Sample(aten.repeat_interleave.Tensor, (index(2, 0, 1),), 0),
]
