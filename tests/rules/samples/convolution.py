"""Samples of convolutions."""

from __future__ import annotations

import torch

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import x

aten = torch.ops.aten


def conv(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    groups: int,
    free: int,
    *,
    transposed: bool = False,
    bias: bool = True,
) -> Sample:
    """A convolution with a stride of 1 and no padding, on input and weight of these shapes."""
    rank = len(shape) - 2
    width = weight[1] * groups if transposed else weight[0]
    ones, zeros = [1] * rank, [0] * rank
    return Sample(
        aten.convolution.default,
        (
            *(x(*shape), x(*weight), x(width) if bias else None),
            *(ones, zeros, ones, transposed, zeros, groups),
        ),
        free,
        adapt=adapt.conv_groups,
    )


CONVOLUTION = [
    conv((2, 3, 5), (4, 3, 2), 1, 2 + 3 + 4),
    conv((2, 3, 5), (4, 3, 2), 1, 2 + 3 + 4, bias=False),
    conv((2, 3, 4, 5), (4, 3, 3, 2), 1, 2 + 3 + 4),
    conv((2, 3, 3, 3, 3), (4, 3, 2, 2, 2), 1, 2 + 3 + 4),
    # Grouped: groups, channels of a group on both sides.
    conv((2, 6, 4, 4), (4, 3, 2, 2), 2, 2 + (2 + 3 + 2)),
    conv((2, 12, 4), (6, 4, 2), 3, 2 + (3 + 4 + 2)),
    # Depthwise: one id for each channel; with a multiplier, some outputs for each channel.
    conv((2, 4, 4, 4), (4, 1, 2, 2), 4, 2 + 4),
    conv((2, 4, 4, 4), (8, 1, 2, 2), 4, 2 + (4 + 2)),
    # Many channels in, one out for each group.
    conv((2, 8, 4), (4, 2, 2), 4, 2 + (4 + 2)),
    conv((2, 3, 5), (3, 4, 2), 1, 2 + 3 + 4, transposed=True),
    conv((2, 3, 4, 5), (3, 4, 3, 2), 1, 2 + 3 + 4, transposed=True, bias=False),
    conv((2, 6, 4, 4), (6, 2, 2, 2), 2, 2 + (2 + 3 + 2), transposed=True),
    conv((2, 4, 4, 4), (4, 1, 2, 2), 4, 2 + 4, transposed=True),
    conv((2, 4, 4, 4), (4, 3, 2, 2), 4, 2 + (4 + 3), transposed=True),
]
