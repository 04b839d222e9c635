"""Samples of operators that read at positions which a tensor names."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import index, unknown, x

aten = torch.ops.aten

INDEXING = [
    Sample(
        aten.index_select.default,
        (x(2, 5), 1, index(4, 0, 0, 2)),
        2 + 5,
        adapt=adapt.picked([4, 0, 0, 2]),
    ),
    Sample(
        aten.index_select.default,
        (x(5, 2), -2, index(1, 2, 3)),
        2 + 5,
        adapt=adapt.picked([1, 2, 3]),
    ),
    # Where the positions are not known, the axis stays; how many are looked up does not matter.
    Sample(aten.index_select.default, (x(2, 5), 1, unknown(index(4, 0, 2))), 2 + 3),
    *(
        Sample(op, (x(2, 5), [None, index(3, 1, -1)]), 2 + 5, adapt=adapt.index_block(1))
        for op in (aten.index.Tensor, aten._unsafe_index.Tensor)
    ),
    Sample(
        aten.index.Tensor, (x(5, 2, 3), [index(3, 1, 1)]), 5 + 2 + 3, adapt=adapt.index_block(0)
    ),
    Sample(aten.index.Tensor, (x(2, 5, 3), [None, unknown(index(3, 1))]), 2 + 2 + 3),
    # A table of positions becomes rows and columns: 4 positions in 2 + 2, one is not looked up.
    Sample(
        aten.index.Tensor,
        (x(2, 5), [None, torch.tensor([[3, 1], [0, 2]])]),
        2 + (1 + 2 + 2),
        adapt=adapt.index_block(1),
    ),
    # Several known positions: an entry goes with either of its own.
    Sample(
        aten.index.Tensor,
        (x(2, 4, 3), [None, index(3, 1), index(0, 2)]),
        2 + 4 + 3,
        adapt=adapt.index_block(1),
    ),
    Sample(
        aten.index.Tensor,
        (x(4, 2, 3), [index(3, 1), None, index(0, 2)]),
        4 + 2 + 3,
        adapt=adapt.index_block(0),
    ),
    Sample(
        aten.index.Tensor,
        (x(4, 3, 2), [index(3, 1, 1).unsqueeze(1), index(0, 2)]),
        4 + 3 + 2,
        adapt=adapt.index_block(0),
    ),
    Sample(aten.index.Tensor, (x(4, 2), [unknown(index(3, 1)), unknown(index(0, 1))]), 2),
    Sample(
        aten.index.Tensor,
        (x(4, 3, 2), [unknown(index(3, 1).unsqueeze(1)), unknown(index(0, 2, 2))]),
        2 + 3 + 2,
    ),
    Sample(aten.index.Tensor, (x(4, 3), [index(3, 1), unknown(index(0, 1))]), 0),
    Sample(aten.embedding.default, (x(5, 3), torch.tensor([[0, 4], [2, 2]])), 3),
    Sample(aten.embedding.default, (x(5, 3), unknown(torch.tensor([[0, 4], [2, 2]]))), 2 + 2 + 3),
    *(
        Sample(op, (x(5, 3), *args), 3)
        for op in (aten._embedding_bag.default, aten._embedding_bag_forward_only.default)
        # Sums and means save other shapes with data than without; models test these.
        for args in (
            (unknown(index(0, 4, 2)), index(0, 1), False, 2),
            (index(0, 4, 2, 1), unknown(index(0, 1, 3)), False, 2),
        )
    ),
    Sample(aten.embedding_renorm.default, (x(5, 3), index(0, 2), 1.0, 2.0), 0),
    Sample(aten.gather.default, (x(2, 5), 1, unknown(torch.tensor([[4, 0, 1], [2, 2, 3]]))), 2 + 3),
    Sample(aten.gather.default, (x(5, 3), 0, unknown(torch.tensor([[4, 0, 1]]))), 3),
    Sample(aten.gather.default, (x(3, 4), -2, unknown(torch.tensor([[2, 0], [1, 1]]))), 2 + 4),
    Sample(aten.gather.default, (x(2, 5), 1, torch.tensor([[4, 0], [2, 2]])), 0),
    Sample(aten.gather.default, (x(), 0, torch.tensor(0)), 0),
]
