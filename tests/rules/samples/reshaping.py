"""Samples of view-like operators."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import NO_CHANNELS, x

aten = torch.ops.aten


def view(before: tuple[int, ...], after: list[int], free: int) -> list[Sample]:
    """The same numbers in another shape, by all operators that do so."""
    contiguous = torch.empty(after).stride()
    return [
        Sample(aten.view.default, (x(*before), after), free, adapt=adapt.sizes("size")),
        *(
            Sample(op, (x(*before), after), free, adapt=adapt.sizes("size"))
            for op in (
                aten._unsafe_view.default,
                aten.view_copy.default,
                aten._reshape_copy.default,
            )
        ),
        Sample(aten.reshape.default, (x(*before), after), free, adapt=adapt.sizes("shape")),
        Sample(
            aten._reshape_alias.default,
            (x(*before), after, contiguous),
            free,
            adapt=adapt.strided,
        ),
    ]


RESHAPING = [
    *view((2, 3, 4), [2, 12], 2 + 3 + 4),
    *view((12, 2), [3, 4, 2], 3 + 4 + 2),
    *view((6, 4), [3, 2, 4], 3 + 2 + 4),
    *view((6, 4), [3, 8], 3 + 2 + 4),
    *view((4, 6), [6, 4], 0),
    *view((2, 3), [2, 1, 3, 1], 2 + 3),
    Sample(aten.flatten.using_ints, (x(2, 3, 4), 1), 2 + 3 + 4),
    Sample(aten.flatten.using_ints, (x(2, 3, 4), 0, -2), 2 + 3 + 4),
    Sample(
        aten.unflatten.int,
        (x(2, 12), 1, [3, 4]),
        2 + 3 + 4,
        adapt=lambda kept: {"sizes": kept.shape()[1:]},
    ),
    Sample(aten.view.dtype, (x(2, 4), torch.int64), 2 + 4),
    Sample(aten.view.dtype, (x(2, 4), torch.float32), 2, pinned=NO_CHANNELS),
    Sample(aten.as_strided.default, (x(2, 4), [2, 4], [4, 1]), 2 + 4, adapt=adapt.strided),
    Sample(aten.as_strided.default, (x(4, 4), [4, 4], [1, 4]), 0),
    Sample(aten.as_strided.default, (x(2, 4), [2, 2], [4, 1], 1), 0),
    Sample(aten.permute.default, (x(2, 3, 4), [2, 0, 1]), 2 + 3 + 4),
    Sample(aten.permute.default, (x(2, 3, 4), [-1, 0, -2]), 2 + 3 + 4),
    Sample(aten.transpose.int, (x(2, 3, 4), 0, -1), 2 + 3 + 4),
    Sample(aten.swapaxes.default, (x(2, 3, 4), 0, -1), 2 + 3 + 4),
    Sample(aten.swapdims.default, (x(2, 3, 4), 1, 2), 2 + 3 + 4),
    Sample(aten.t.default, (x(2, 3),), 2 + 3),
    Sample(aten.t.default, (x(3),), 3),
    Sample(aten.numpy_T.default, (x(2, 3),), 2 + 3),
    Sample(aten.numpy_T.a, (x(2, 3),), 2 + 3),
    Sample(aten.mT.default, (x(2, 3, 4),), 2 + 3 + 4),
    Sample(aten.mT.a, (x(2, 3, 4),), 2 + 3 + 4),
    Sample(aten.unsqueeze.default, (x(2, 3), 1), 2 + 3),
    Sample(aten.unsqueeze.default, (x(2, 3), -1), 2 + 3),
    # An axis that has shrunk to one position is not one to squeeze.
    Sample(
        aten.squeeze.default,
        (x(1, 3, 1),),
        3,
        adapt=lambda kept: {"dim": [0, 2]},
        instead=aten.squeeze.dims,
    ),
    Sample(aten.squeeze.dim, (x(2, 1, 3), 1), 2 + 3),
    Sample(aten.squeeze.dim, (x(2, 1, 3), -3), 2 + 3, instead=aten.clone.default),
    Sample(aten.squeeze.dims, (x(1, 2, 1), [0, -1]), 2),
    Sample(aten.expand.default, (x(2, 1), [2, 4]), 2 + 4, adapt=adapt.sizes("size")),
    Sample(aten.expand.default, (x(3), [2, 3]), 2 + 3, adapt=adapt.sizes("size")),
    Sample(aten.broadcast_to.default, (x(2, 1), [4, 2, 3]), 4 + 2 + 3, adapt=adapt.sizes("size")),
    # Only whole output channels go, with the positions that they are made of.
    Sample(aten.pixel_shuffle.default, (x(2, 12, 2, 3), 2), 2 + 3, pinned=NO_CHANNELS),
    Sample(aten.pixel_unshuffle.default, (x(2, 3, 4, 6), 2), 2 + 3),
    Sample(aten.channel_shuffle.default, (x(2, 6, 2, 2), 3), 2 + 2 + 2 + 2),
    Sample(aten.native_channel_shuffle.default, (x(2, 6, 2, 2), 2), 2 + 3 + 2 + 2),
    Sample(aten.view_copy.dtype, (x(2, 4), torch.int64), 2 + 4),
    Sample(aten.as_strided_copy.default, (x(2, 4), [2, 4], [4, 1]), 2 + 4, adapt=adapt.strided),
    Sample(aten.permute_copy.default, (x(2, 3, 4), [2, 0, 1]), 2 + 3 + 4),
    Sample(aten.transpose_copy.int, (x(2, 3, 4), 0, -1), 2 + 3 + 4),
    Sample(aten.t_copy.default, (x(2, 3),), 2 + 3),
    Sample(aten.unsqueeze_copy.default, (x(2, 3), 1), 2 + 3),
    Sample(
        aten.squeeze_copy.default,
        (x(1, 3, 1),),
        3,
        adapt=lambda kept: {"dim": [0, 2]},
        instead=aten.squeeze.dims,
    ),
    Sample(aten.squeeze_copy.dim, (x(2, 1, 3), 1), 2 + 3),
    Sample(aten.squeeze_copy.dims, (x(1, 2, 1), [0, -1]), 2),
    Sample(aten.expand_copy.default, (x(2, 1), [2, 4]), 2 + 4, adapt=adapt.sizes("size")),
]
