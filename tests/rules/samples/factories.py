"""Samples of operators that make a tensor out of nothing."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import x

aten = torch.ops.aten


def made(op: OpOverload, *args: object, free: int, random: bool = False) -> Sample:
    """A factory that names sizes of its output (the first argument that is a list)."""
    return Sample(op, args, free, adapt=adapt.sizes("size"), random=random)


FACTORIES = [
    made(aten.empty.memory_format, [2, 3], free=2 + 3, random=True),
    made(aten.zeros.default, [2, 3], free=2 + 3),
    made(aten.zeros.default, [2, 1], free=2),
    made(aten.ones.default, [2, 3], free=2 + 3),
    made(aten.full.default, [2, 3], 7.0, free=2 + 3),
    made(aten.new_empty.default, x(4), [2, 3], free=4 + 2 + 3, random=True),
    made(aten.new_zeros.default, x(4), [2, 3], free=4 + 2 + 3),
    made(aten.new_ones.default, x(4), [2, 3], free=4 + 2 + 3),
    made(aten.new_full.default, x(4), [2, 3], 7.0, free=4 + 2 + 3),
    Sample(aten.empty_strided.default, ([2, 3], [3, 1]), 2 + 3, adapt=adapt.strided, random=True),
    Sample(
        aten.new_empty_strided.default,
        (x(4), [2, 3], [3, 1]),
        4 + 2 + 3,
        adapt=adapt.strided,
        random=True,
    ),
    Sample(aten.arange.default, (4,), 0),
    Sample(aten.arange.start, (1, 4), 0),
    Sample(aten.arange.start_step, (1, 8, 2), 0),
    Sample(aten.linspace.default, (0.0, 1.0, 4), 0),
    Sample(aten.linspace.Tensor_Tensor, (x(), x(), 4), 0),
    Sample(aten.linspace.Tensor_Scalar, (x(), 1.0, 4), 0),
    Sample(aten.linspace.Scalar_Tensor, (0.0, x(), 4), 0),
    Sample(aten.logspace.default, (0.0, 1.0, 4), 0),
    Sample(aten.logspace.Tensor_Tensor, (x(), x(), 4), 0),
    Sample(aten.logspace.Tensor_Scalar, (x(), 1.0, 4), 0),
    Sample(aten.logspace.Scalar_Tensor, (0.0, x(), 4), 0),
    Sample(aten.eye.default, (3,), 0),
    Sample(aten.eye.m, (3, 4), 0),
    Sample(aten.rand.default, ([2, 3],), 0, random=True),
    Sample(aten.rand.generator, ([2, 3],), 0, {"generator": None}, random=True),
    Sample(aten.randn.default, ([2, 3],), 0, random=True),
    Sample(aten.randn.generator, ([2, 3],), 0, {"generator": None}, random=True),
    Sample(aten.randint.default, (5, [2, 3]), 0, random=True),
    Sample(aten.randint.generator, (5, [2, 3]), 0, {"generator": None}, random=True),
    Sample(aten.randint.low, (2, 5, [2, 3]), 0, random=True),
    Sample(aten.randint.low_generator, (2, 5, [2, 3]), 0, {"generator": None}, random=True),
    Sample(aten.randperm.default, (5,), 0, random=True),
    Sample(aten.randperm.generator, (5,), 0, {"generator": None}, random=True),
    Sample(aten.normal.float_float, (0.0, 1.0, [2, 3]), 0, random=True),
    Sample(aten.scalar_tensor.default, (2.0,), 0),
    Sample(aten.tril_indices.default, (3, 3), 0),
    Sample(aten.triu_indices.default, (3, 3), 0),
]
