"""Samples of operators that write at positions which a tensor names."""

from __future__ import annotations

import torch

from fxprune.testing import Operand, Sample
from tests.rules.samples.operands import boolean, index, unknown, x

aten = torch.ops.aten


def places(*shape: int, below: int) -> Operand:
    """Positions that no rule sees, all of them different along every axis."""
    return unknown((torch.arange(torch.Size(shape).numel()) * 7 % below).reshape(shape))


SCATTERING = [
    # Along the axis written to, entries can go only if they are added.
    *(
        Sample(op, (x(2, 5), 1, places(2, 3, below=5), *args), 2, kwargs)
        for op, args, kwargs in (
            (aten.scatter.src, (x(2, 3),), {}),
            (aten.scatter.value, (7.0,), {}),
            (aten.scatter.reduce, (x(2, 3),), {"reduce": "multiply"}),
            (aten.scatter.value_reduce, (7.0,), {"reduce": "multiply"}),
            (aten.scatter.value_reduce, (7.0,), {"reduce": "add"}),
            (aten.scatter_reduce.two, (x(2, 3), "amax"), {}),
            (aten.scatter_reduce.two, (x(2, 3), "mean"), {"include_self": False}),
            (aten.scatter_reduce.two, (x(2, 3), "prod"), {}),
        )
    ),
    *(
        Sample(op, (x(2, 5), 1, places(2, 3, below=5), x(2, 3), *args), 2 + 3, kwargs)
        for op, args, kwargs in (
            (aten.scatter_add.default, (), {}),
            (aten.scatter.reduce, (), {"reduce": "add"}),
            (aten.scatter_reduce.two, ("sum",), {}),
        )
    ),
    # The index lies on the first positions; what is beyond them is free.
    Sample(aten.scatter_add.default, (x(4, 5), 0, places(3, 2, below=4), x(4, 4)), 4 + 3 + 2 + 2),
    Sample(aten.scatter.src, (x(4, 5), -1, places(2, 3, below=5), x(4, 4)), 2 + 2 + 2 + 1),
    Sample(aten.index_add.default, (x(2, 5), 1, unknown(index(3, 0, 3)), x(2, 3)), 2 + 3),
    Sample(aten.index_add.default, (x(5, 2), -2, index(3, 0), x(2, 2)), 2, {"alpha": 2}),
    Sample(aten.index_copy.default, (x(2, 5), 1, unknown(index(3, 0, 1)), x(2, 3)), 2),
    Sample(aten.index_reduce.default, (x(2, 5), 1, unknown(index(3, 0, 3)), x(2, 3), "amax"), 2),
    Sample(aten.index_fill.int_Scalar, (x(2, 5), 1, unknown(index(3, 0)), 7.0), 2),
    Sample(aten.index_fill.int_Tensor, (x(5, 2), 0, index(3, 0), x()), 2),
    *(
        Sample(op, args, free, pinned="what an index writes to is not told by labels")
        for op in (
            aten.index_put.default,
            aten._unsafe_index_put.default,
            aten._index_put_impl.default,
        )
        for args, free in (
            ((x(5, 3), [unknown(index(3, 0))], x(2, 3)), 3),
            ((x(5, 3), [unknown(index(3, 0))], x()), 3),
            ((x(2, 5, 3), [None, unknown(index(3, 0))], x(2, 2, 3), True), 2 + 3),
            ((x(2, 5, 3), [None, unknown(index(3, 0)), None], x(2, 1, 3)), 2 + 3),
            ((x(4, 2, 5), [unknown(index(3, 0)), None, unknown(index(1, 4))], x(2, 2)), 2),
            (
                (x(3, 4, 5), [None, unknown(torch.tensor([[3], [0]])), index(1, 4, 2)], x(3, 1, 3)),
                3,
            ),
            ((x(2, 3), [unknown(torch.tensor([True, False]))], x(3)), 3),
            ((x(2, 3, 4), [unknown(torch.eye(2, 3).bool())], x(4)), 4),
        )
    ),
    Sample(aten.put.default, (x(2, 3), unknown(index(3, 0)), x(2)), 0),
    # What was expanded along the rows takes whole rows.
    Sample(aten.masked_scatter.default, (x(3, 4), unknown(torch.tensor([[True]] * 3)), x(5, 4)), 4),
    Sample(aten.masked_scatter.default, (x(3, 4), boolean(3, 4), x(5, 4)), 0),
    Sample(aten.masked_scatter.default, (x(3, 4), unknown(torch.tensor([[True]] * 3)), x(5, 6)), 0),
    Sample(aten.masked_scatter.default, (x(3, 4), boolean(3, 4), x(12)), 0),
    Sample(aten.masked_scatter.default, (x(2, 3, 4), boolean(3, 1), x(9, 4)), 4),
]
