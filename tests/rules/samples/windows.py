"""Samples of operators with trailing spatial axes."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from fxprune.testing import Operand, Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import NO_CHANNELS, unit, unknown, x

aten = torch.ops.aten


ENDS = "the ends stay, which a local response norm pads"


def window(op: OpOverload, size: int, *args: object) -> Sample:
    """An operator that slides over all axes but the first two, of 6 positions each."""
    return Sample(op, (x(2, 3, *[6] * size), *args), 2 + 3)


def windows(rank: int) -> list[Sample]:
    """The operators of one rank that exist for every rank."""

    def named(name: str, overload: str = "default") -> OpOverload:
        op: OpOverload = getattr(getattr(aten, name), overload)
        return op

    two, eight, scales = [2] * rank, [8] * rank, [1.5] * rank
    linear = {1: "upsample_linear1d", 2: "upsample_bilinear2d", 3: "upsample_trilinear3d"}[rank]
    return [
        *(
            window(named(f"{name}{rank}d"), rank, two)
            for name in (
                "avg_pool",
                "max_pool",
                "adaptive_avg_pool",
                "adaptive_max_pool",
                "upsample_nearest",
                "_upsample_nearest_exact",
            )
        ),
        Sample(named(f"avg_pool{rank}d"), (x(3, *[6] * rank), two), 3),
        *(
            window(named(f"{name}{rank}d", "vec"), rank, None, scales)
            for name in ("upsample_nearest", "_upsample_nearest_exact")
        ),
        window(named(linear), rank, eight, False),
        window(named(linear, "vec"), rank, None, True, scales),
        window(named(f"max_pool{rank}d_with_indices"), rank, two),
        window(named(f"reflection_pad{rank}d"), rank, [1, 2] * rank),
        window(named(f"replication_pad{rank}d"), rank, [1, 2] * rank),
        Sample(named(f"reflection_pad{rank}d"), (x(3, *[6] * rank), [1, 0] * rank), 3),
    ]


def unpooled(*shape: int) -> Operand:
    """Labelled indices for `max_unpool`: each channel's, in order."""
    places = torch.arange(torch.Size(shape[2:]).numel()).reshape(shape[2:])
    return unknown(places.expand(shape).contiguous())


WINDOWS = [
    *windows(1),
    *windows(2),
    *windows(3),
    # An average that moves one by one, as in a local response norm: all but the ends may go.
    Sample(aten.avg_pool1d.default, (x(2, 3, 6), [3], [1]), 2 + 3 + 4, pinned=ENDS),
    Sample(aten.avg_pool2d.default, (x(2, 3, 7, 4), [4, 1], 1), 2 + 3 + 4 + 4, pinned=ENDS),
    Sample(aten.avg_pool3d.default, (x(2, 7, 4, 4), [3, 2, 2], [1, 2, 2]), 2 + 5, pinned=ENDS),
    window(aten._adaptive_avg_pool2d.default, 2, [2, 2]),
    window(aten._adaptive_avg_pool3d.default, 3, [2, 2, 2]),
    *(
        sample
        for packet in (
            aten.upsample_bicubic2d,
            aten._upsample_bilinear2d_aa,
            aten._upsample_bicubic2d_aa,
        )
        for sample in (
            window(packet.default, 2, [8, 8], False),
            window(packet.vec, 2, None, True, [1.5, 1.5]),
        )
    ),
    window(aten.fractional_max_pool2d.default, 2, [2, 2], [3, 3], unit(2, 3, 2)),
    window(aten.fractional_max_pool3d.default, 3, [2, 2, 2], [3, 3, 3], unit(2, 3, 3)),
    Sample(
        aten.max_unpool2d.default,
        (x(2, 3, 2, 2), unpooled(2, 3, 2, 2), [4, 4]),
        2 + 3,
        pinned=NO_CHANNELS,
    ),
    Sample(
        aten.max_unpool3d.default,
        (x(2, 3, 2, 2, 2), unpooled(2, 3, 2, 2, 2), [4] * 3, [2] * 3, [0] * 3),
        2 + 3,
        pinned=NO_CHANNELS,
    ),
    Sample(
        aten.grid_sampler_2d.default,
        (x(2, 3, 4, 4), unit(2, 5, 5, 2), 0, 0, False),
        2 + 3,
        pinned=NO_CHANNELS,
    ),
    Sample(
        aten.grid_sampler_3d.default,
        (x(2, 3, 4, 4, 4), unit(2, 5, 5, 5, 3), 0, 0, False),
        2 + 3,
        pinned=NO_CHANNELS,
    ),
    Sample(
        aten.affine_grid_generator.default,
        (x(2, 2, 3), [2, 3, 4, 4], False),
        2,
        adapt=adapt.first_of_size,
    ),
    Sample(
        aten.affine_grid_generator.default,
        (x(2, 3, 4), [2, 3, 4, 4, 4], False),
        2,
        adapt=adapt.first_of_size,
    ),
    *(
        Sample(op, (x(2, 6, 3), dim, 4, 2), 2 + 3)
        for op in (aten.unfold.default, aten.unfold_copy.default)
        for dim in (1, -2)
    ),
    Sample(aten.unfold.default, (x(), 0, 1, 1), 0),
    *(
        Sample(aten.im2col.default, (x(*batch, 3, 4, 5), [2, 3], [1, 1], [1, 0], [1, 2]), free)
        for batch, free in (((2,), 2 + 3), ((), 3))
    ),
    # Only whole output channels go, with the rows that they are made of.
    *(
        Sample(
            aten.col2im.default,
            (x(*batch, 12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]),
            free,
        )
        for batch, free in (((2,), 2 + 3), ((), 3))
    ),
]
