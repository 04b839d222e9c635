"""Samples of operators that pick, join, repeat or reorder positions."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import x

aten = torch.ops.aten

MOVEMENT = [
    Sample(aten.cat.default, ([x(2, 3), x(2, 4), x(2, 2)], 1), 2 + 3 + 4 + 2),
    Sample(aten.cat.default, ([x(3, 2), x(4, 2)], -2), 2 + 3 + 4),
    Sample(aten.cat.default, ([x(2, 1), x(2, 4)], 1), 2 + 4),
    Sample(aten.concat.default, ([x(2, 3), x(2, 4)], 1), 2 + 3 + 4),
    Sample(aten.stack.default, ([x(2, 3), x(2, 3)], 1), 2 + 3),
    Sample(aten.stack.default, ([x(2, 3), x(2, 3)], -1), 2 + 3),
    *(
        Sample(
            op,
            (x(2, 8), 1, *range_),
            2 + 8,
            adapt=adapt.picked(torch.arange(8)[slice(*range_)]),
            instead=aten.index_select.default,
        )
        for op in (aten.slice.Tensor, aten.slice_copy.Tensor)
        for range_ in ((2, 6, 1), (0, 2**63 - 1, 2), (1, 7, 3), (-3, None, 1), (None, -2, 1))
    ),
    Sample(
        aten.slice.Tensor,
        (x(2, 8), 1, 2, 3),
        2 + 7,  # what is picked alone stays
        adapt=adapt.picked([2]),
        instead=aten.index_select.default,
    ),
    Sample(aten.narrow.default, (x(2, 8), 1, 2, 4), 2 + 8, adapt=adapt.narrowed),
    Sample(aten.narrow.default, (x(8, 2), -2, -5, 3), 2 + 8, adapt=adapt.narrowed),
    Sample(aten.select.int, (x(2, 5), 1, 2), 2 + 4, adapt=adapt.selected),
    Sample(aten.select.int, (x(2, 5), -1, -2), 2 + 4, adapt=adapt.selected),
    Sample(aten.select_copy.int, (x(2, 5), 1, 2), 2 + 4, adapt=adapt.selected),
    Sample(aten.unbind.int, (x(2, 3), 1), 2),
    *(
        Sample(
            op, (x(2, 7), *args), 2 + 7, adapt=adapt.pieces, instead=aten.split_with_sizes.default
        )
        for op, *args in (
            (aten.split.Tensor, 4, 1),
            (aten.split.Tensor, 4, -1),
            (aten.split.sizes, [2, 3, 2], 1),
            (aten.split.default, [2, 3, 2], 1),
            (aten.split_with_sizes.default, [2, 3, 2], 1),
            (aten.unsafe_split.Tensor, 4, 1),
            (aten.unsafe_split_with_sizes.default, [2, 3, 2], 1),
            (aten.chunk.default, 2, 1),
            (aten.unsafe_chunk.default, 2, 1),
            (aten.tensor_split.sections, 3, 1),
            (aten.tensor_split.indices, [2, 5], 1),
        )
    ),
    Sample(
        aten.chunk.default,
        (x(2, 7), 3, 1),
        2 + 6,  # uneven: the last piece is a single position
        adapt=adapt.pieces,
        instead=aten.split_with_sizes.default,
    ),
    Sample(aten.roll.default, (x(2, 6), [2], [1]), 2 + 6, adapt=adapt.rolled),
    Sample(aten.roll.default, (x(5, 6), [-1, 8], [0, -1]), 5 + 6, adapt=adapt.rolled),
    Sample(aten.roll.default, (x(2, 6), [2]), 0),
    Sample(aten.flip.default, (x(2, 6), [1]), 2 + 6),
    Sample(aten.flip.default, (x(5, 2, 6), [0, -1]), 5 + 2 + 6),
    Sample(aten.repeat.default, (x(2, 3), [1, 2]), 2 + 3, adapt=adapt.repeats("repeats")),
    Sample(aten.repeat.default, (x(2, 1), [4, 2, 3]), 4 + 2 + 3, adapt=adapt.repeats("repeats")),
    Sample(aten.tile.default, (x(2, 3), [2]), 2 + 3, adapt=adapt.repeats("dims")),
    Sample(aten.tile.default, (x(2, 3), [2, 1, 2]), 2 + 2 + 3, adapt=adapt.repeats("dims")),
    Sample(aten.repeat_interleave.self_int, (x(2, 3), 4, 1), 2 + 3 + 4, adapt=adapt.interleaved),
    Sample(aten.repeat_interleave.self_int, (x(2, 3), 4), 2 + 3 + 4, adapt=adapt.interleaved),
    Sample(aten.constant_pad_nd.default, (x(2, 3), [1, 2]), 2 + 6, adapt=adapt.padded),
    Sample(aten.constant_pad_nd.default, (x(2, 3), [0, 0, 2, 0], 5.0), 4 + 3, adapt=adapt.padded),
    Sample(aten.constant_pad_nd.default, (x(2, 5), [-1, 2]), 2 + 7, adapt=adapt.padded),
    Sample(aten.constant_pad_nd.default, (x(5, 2), [0, 0, 1, -2]), 6 + 2, adapt=adapt.padded),
    Sample(aten.narrow_copy.default, (x(2, 8), 1, 2, 4), 2 + 8, adapt=adapt.narrowed),
    Sample(aten.unbind_copy.int, (x(2, 3), 1), 2),
    *(
        Sample(
            op, (x(2, 7), *args), 2 + 7, adapt=adapt.pieces, instead=aten.split_with_sizes.default
        )
        for op, *args in (
            (aten.split_copy.Tensor, 4, 1),
            (aten.split_with_sizes_copy.default, [2, 3, 2], 1),
        )
    ),
    *(
        Sample(aten.rot90.default, (x(2, 3, 4), turns, dims), 2 + 3 + 4)
        for turns, dims in ((1, [1, 2]), (2, [0, -1]), (-1, [0, 1]), (4, [0, 1]))
    ),
    Sample(aten.slice_scatter.default, (x(2, 6), x(2, 3), 1, 1, 4), 2),
    Sample(aten.slice_scatter.default, (x(2, 6), x(2, 3), 1, 0, 6, 2), 2),
    Sample(aten.slice_scatter.default, (x(2, 6), x(2, 6), 1), 2 + 6),
    Sample(aten.select_scatter.default, (x(2, 6), x(2), 1, 3), 2),
    Sample(aten.select_scatter.default, (x(2, 6), x(6), -2, 1), 6),
]
