"""Samples of reductions."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from fxprune.testing import Sample
from tests.rules.samples.operands import boolean, x

aten = torch.ops.aten


def reduction(op: OpOverload, *args: object, free: int = 2 + 3 + 4, **kwargs: object) -> Sample:
    """A reduction of (2, 3, 4). Reduced axes are free too."""
    return Sample(op, (x(2, 3, 4), *args), free, kwargs)


REDUCTION = [
    reduction(aten.sum.default),
    *(
        reduction(op, *args)
        for op in (aten.sum.dim_IntList, aten.nansum.default, aten.mean.dim)
        for args in (([1],), ([-1, 0],), ([1], True), (None,))
    ),
    # Not nansum: in torch 2.13 its meta kernel keeps all axes where the real one reduces all.
    *(reduction(op, []) for op in (aten.sum.dim_IntList, aten.mean.dim)),
    reduction(aten.mean.default),
    *(
        reduction(op, *args)
        for op in (aten.amax.default, aten.amin.default, aten.logsumexp.default)
        for args in (([1],), ([-1, 0], True))
    ),
    reduction(aten.amax.default),
    reduction(aten.max.default),
    reduction(aten.min.default),
    *(
        sample
        for packet in (aten.var, aten.std)
        for sample in (
            reduction(packet.default, False),
            reduction(packet.dim, [1], False),
            reduction(packet.correction, [0, 2], correction=0, keepdim=True),
            reduction(packet.correction, None, correction=0),
        )
    ),
    *(
        sample
        for packet in (aten.var_mean, aten.std_mean)
        for sample in (
            reduction(packet.default, False),
            reduction(packet.dim, [1], False, True),
            reduction(packet.correction, [0, 2], correction=0),
        )
    ),
    reduction(aten.linalg_vector_norm.default, 2, [1]),
    reduction(aten.linalg_vector_norm.default, 1, None, True),
    reduction(aten.norm.Scalar),
    reduction(aten.norm.ScalarOpt_dim, 2, [1]),
    reduction(aten.norm.ScalarOpt_dim_dtype, 2, [1], True, dtype=torch.float64),
    reduction(aten.norm.ScalarOpt_dtype, 2, dtype=torch.float64),
    reduction(aten.prod.default),
    reduction(aten.prod.dim_int, -2),
    *(
        Sample(op, (boolean(2, 3), *args), 2 + 3)
        for packet in (aten.any, aten.all)
        for op, *args in (
            (packet.default,),
            (packet.dim, 1),
            (packet.dim, -2, True),
            (packet.dims, [0, 1]),
            (packet.dims, None),
            (packet.dims, []),  # no dim at all, other than elsewhere
        )
    ),
    reduction(aten.aminmax.default),
    reduction(aten.aminmax.default, dim=1, keepdim=True),
    *(
        reduction(op, *args, free=free)
        for op in (aten.max.dim, aten.min.dim, aten.median.dim, aten.mode.default)
        for args, free in (((1,), 2 + 4), ((-1, True), 2 + 3))
    ),
    reduction(aten.argmax.default, 1, free=2 + 4),
    reduction(aten.argmax.default, free=0),
    reduction(aten.argmin.default, -1, True, free=2 + 3),
    reduction(aten.median.default, free=0),
    *(
        reduction(op, 1, free=2 + 4)
        for op in (
            aten.cumsum.default,
            aten.cumprod.default,
            aten.cummax.default,
            aten.cummin.default,
            aten.logcumsumexp.default,
            aten.sort.default,
        )
    ),
    reduction(aten.sort.default, free=2 + 3),
    reduction(aten.sort.stable, stable=True, dim=0, free=3 + 4),
    reduction(aten.topk.default, 2, 1, free=2 + 4),
    reduction(aten.nanmedian.default, free=0),
    reduction(aten.nanmedian.dim, 1, free=2 + 4),
    reduction(aten.kthvalue.default, 2, free=2 + 3),
    reduction(aten.kthvalue.default, 2, 1, True, free=2 + 4),
]
