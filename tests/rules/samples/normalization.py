"""Samples of normalizations."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from fxprune.testing import Sample
from fxprune.testing import adapters as adapt
from tests.rules.samples.operands import positive, x

aten = torch.ops.aten


def batch_norm(op: OpOverload, *tail: object, affine: bool = True) -> Sample:
    """A batch norm over (2, 3, 4), with running statistics."""
    vectors = (x(3), x(3)) if affine else (None, None)
    return Sample(op, (x(2, 3, 4), *vectors, x(3), positive(3), *tail), 2 + 3 + 4)


NORMALIZATION = [
    batch_norm(aten.native_batch_norm.default, False, 0.1, 1e-5),
    batch_norm(aten.native_batch_norm.default, False, 0.1, 1e-5, affine=False),
    batch_norm(aten.native_batch_norm.default, True, 0.1, 1e-5),
    Sample(
        aten.native_batch_norm.default, (x(3, 4), x(4), x(4), None, None, True, 0.1, 1e-5), 3 + 4
    ),
    batch_norm(aten._native_batch_norm_legit.default, False, 0.1, 1e-5),
    batch_norm(aten._native_batch_norm_legit.default, True, 0.1, 1e-5),
    Sample(
        aten._native_batch_norm_legit.no_stats,
        (x(2, 3, 4), x(3), x(3), True, 0.1, 1e-5),
        2 + 3 + 4,
    ),
    batch_norm(aten._native_batch_norm_legit_no_training.default, 0.1, 1e-5),
    batch_norm(aten._batch_norm_with_update.default, 0.1, 1e-5),
    Sample(
        aten.native_layer_norm.default,
        (x(2, 5, 4), [4], x(4), x(4), 1e-5),
        2 + 5 + 4,
        adapt=adapt.trailing_shape,
    ),
    Sample(
        aten.native_layer_norm.default,
        (x(2, 5, 4), [5, 4], x(5, 4), x(5, 4), 1e-5),
        2 + 5 + 4,
        adapt=adapt.trailing_shape,
    ),
    Sample(
        aten.native_layer_norm.default,
        (x(2, 4), [4], None, None, 1e-5),
        2 + 4,
        adapt=adapt.trailing_shape,
    ),
    *(
        Sample(
            aten.native_group_norm.default,
            (x(2, 6, 4), *affine, 2, 6, 4, group, 1e-5),
            free,
            adapt=adapt.group_norm_sizes,
        )
        # Groups stay; each gives as many of its channels as the others.
        for group, free in ((2, 2 + 3 + 4), (3, 2 + 2 + 4), (1, 2 + 6 + 4), (6, 2 + 6 + 4))
        for affine in ((x(6), x(6)), (None, None))
    ),
    Sample(
        aten.native_group_norm.default,
        (x(2, 6), x(6), x(6), 2, 6, 1, 2, 1e-5),
        2 + 3,
        adapt=adapt.group_norm_sizes,
    ),
    Sample(aten._softmax.default, (x(2, 4), 1, False), 2 + 4),
    Sample(aten._softmax.default, (x(2, 4, 3), -2, False), 2 + 4 + 3),
    Sample(aten._safe_softmax.default, (x(2, 4), 1), 2 + 4),
    Sample(aten._log_softmax.default, (x(2, 4), 0, False), 2 + 4),
]
