"""Samples of element-wise operators."""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from fxprune.testing import Sample
from tests.rules.samples.operands import boolean, positive, unit, x

aten = torch.ops.aten


def unary(op: OpOverload, *args: object, random: bool = False, **kwargs: object) -> Sample:
    """An operator on each number of (2, 3)."""
    return Sample(op, (x(2, 3), *args), 2 + 3, kwargs, random=random)


POINTWISE = [
    Sample(aten.add.Tensor, (x(2, 3), x(2, 3)), 2 + 3),
    Sample(aten.add.Tensor, (x(2, 3), x(3)), 2 + 3, {"alpha": 2}),
    Sample(aten.add.Tensor, (x(2, 1), x(4, 1, 3)), 4 + 2 + 3),
    Sample(aten.add.Tensor, (x(2, 3), x()), 2 + 3),
    Sample(aten.where.self, (boolean(2, 3), x(3), x(2, 1)), 2 + 3),
    Sample(aten.where.ScalarSelf, (boolean(2, 3), 1.0, x(3)), 2 + 3),
    Sample(aten.where.ScalarOther, (boolean(3), x(2, 3), 1.0), 2 + 3),
    Sample(aten.where.Scalar, (boolean(2, 3), 1.0, 2.0), 2 + 3),
    Sample(aten.copy.default, (x(2, 3), x(3)), 2 + 3),
    Sample(aten.copy_.default, (x(2, 3), x(3)), 2 + 3),
    Sample(aten.copy_.Tensor, (x(2, 3), x(2, 3)), 2 + 3),
    unary(aten.copy_.int, 3),
    unary(aten.copy_.float, 3.0),
    unary(aten.native_dropout.default, 0.5, False),
    unary(aten.native_dropout.default, 0.5, True, random=True),
    Sample(aten.addcmul.default, (x(2, 3), x(3), x(2, 1)), 2 + 3),
    Sample(aten.addcdiv.default, (x(2, 3), x(3), positive(2, 1)), 2 + 3),
    Sample(aten.lerp.Scalar, (x(2, 3), x(3), 0.3), 2 + 3),
    Sample(aten.lerp.Tensor, (x(2, 3), x(3), x(2, 1)), 2 + 3),
    Sample(aten.masked_fill.Scalar, (x(2, 3), boolean(3), 7.0), 2 + 3),
    Sample(aten.masked_fill.Tensor, (x(2, 3), boolean(2, 1), x()), 2 + 3),
    Sample(aten._prelu_kernel.default, (x(2, 3, 4), x(1, 3, 1)), 2 + 3 + 4),
    Sample(aten.rrelu_with_noise.default, (x(2, 3), x(2, 3)), 2 + 3),
    Sample(aten.rrelu_with_noise.default, (x(2, 3), x(2, 3), 0.1, 0.3, True), 5, random=True),
    unary(aten.hardswish.default),
    unary(aten.hardsigmoid.default),
    unary(aten.hardtanh.default, -0.5, 0.5),
    unary(aten.celu.default),
    unary(aten.selu.default),
    unary(aten.mish.default),
    unary(aten.log_sigmoid_forward.default),
    unary(aten.threshold.default, 0.1, 7.0),
    Sample(aten.bernoulli.Tensor, (x(2, 3), unit(2, 3)), 2 + 3, random=True),
    Sample(aten.normal.Tensor_float, (x(2, 3), 1.0), 2 + 3, random=True),
    Sample(aten.normal.float_Tensor, (0.0, positive(2, 3)), 2 + 3, random=True),
    Sample(aten.normal.Tensor_Tensor, (x(2, 3), positive(2, 3)), 2 + 3, random=True),
    unary(aten.clone.default),
    unary(aten._to_copy.default, dtype=torch.float32),
    unary(aten.to.dtype, torch.float32),
    Sample(aten.to.other, (x(2, 3), x()), 2 + 3),
    unary(aten.to.dtype_layout, dtype=torch.float32),
    unary(aten.to.prim_Device, None),
    unary(aten.to.prim_dtype),
    unary(aten.to.prim_other),
    unary(aten.alias.default),
    unary(aten.detach.default),
    unary(aten.lift.default),
    unary(aten.lift_fresh.default),
    unary(aten.lift_fresh_copy.default),
    unary(aten.contiguous.default),
    unary(aten.dropout.default, 0.5, False),
    Sample(aten.bernoulli.default, (unit(2, 3),), 2 + 3, random=True),
    unary(aten.bernoulli.p, 0.5, random=True),
    unary(aten.fill.Scalar, 7.0),
    Sample(aten.fill.Tensor, (x(2, 3), x()), 2 + 3),
    unary(aten.zero.default),
    unary(aten.zeros_like.default),
    unary(aten.ones_like.default),
    unary(aten.empty_like.default, random=True),
    unary(aten.full_like.default, 7.0),
    unary(aten.rand_like.default, random=True),
    unary(aten.rand_like.generator, random=True, generator=None),
    unary(aten.randn_like.default, random=True),
    unary(aten.randn_like.generator, random=True, generator=None),
    unary(aten.resolve_conj.default),
    unary(aten.resolve_neg.default),
    Sample(aten.prelu.default, (x(2, 3, 4), x(3)), 2 + 3 + 4),
    Sample(aten.prelu.default, (x(2, 3, 4), x(1)), 2 + 3 + 4),
    Sample(aten.prelu.default, (x(3), x(1)), 3),
    *(unary(op) for op in (aten.alias_copy.default, aten.detach_copy.default)),
    unary(aten._neg_view.default),
    *(
        unary(op, *args, random=True)
        for op, *args in (
            (aten.uniform.default,),
            (aten.exponential.default,),
            (aten.geometric.default, 0.5),
            (aten.cauchy.default,),
            (aten.log_normal.default,),
            (aten.random.default,),
            (aten.random.to, 5),
            (getattr(aten.random, "from"), 2, 5),
        )
    ),
]
