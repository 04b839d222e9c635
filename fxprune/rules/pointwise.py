"""Element-wise operators, and those that copy a tensor as it is."""

from __future__ import annotations

import torch

from fxprune.rules.call import Call
from fxprune.rules.registry import rule

aten = torch.ops.aten


@rule(
    aten.add.Tensor,
    aten.where.self,
    aten.where.ScalarSelf,
    aten.where.ScalarOther,
    aten.where.Scalar,
    aten.copy,
    aten.copy_,
    aten.native_dropout,
    aten.addcmul,
    aten.addcdiv,
    aten.lerp,
    aten.masked_fill,
    aten._prelu_kernel,
    aten.rrelu_with_noise,
    aten.hardswish,
    aten.hardsigmoid,
    aten.hardtanh,
    aten.celu,
    aten.selu,
    aten.mish,
    aten.log_sigmoid_forward,
    aten.threshold,
    aten.complex,
    aten.polar,
    aten.bernoulli.Tensor,
    aten.normal.Tensor_float,
    aten.normal.Tensor_float_out,
    aten.normal.float_Tensor,
    aten.normal.float_Tensor_out,
    aten.normal.Tensor_Tensor,
    aten.normal.Tensor_Tensor_out,
    aten.normal.out,
)
def pointwise(call: Call) -> None:
    """Unify the operands axis by axis; axes of size 1 broadcast and stay out of it.

    Also used for every operator that is tagged `torch.Tag.pointwise`.
    """
    for out in call.outputs():
        axes = []
        for back in range(out.dim(), 0, -1):
            size = out.shape[-back]
            axis = None
            for operand in call.tensors():
                if size == 1 or operand.dim() < back or operand.shape[-back] != size:
                    continue
                other = call.axes(operand)[-back]
                if axis is None:
                    axis = other
                else:
                    call.labels.unify(axis, other)
            axes.append(axis if axis is not None else call.pinned(size))
        call.result(axes)
        break


@rule(
    aten.clone,
    aten._to_copy,
    aten.to,
    aten.alias,
    aten.detach,
    aten.alias_copy,
    aten.detach_copy,
    aten.lift,
    aten.lift_fresh,
    aten.lift_fresh_copy,
    aten.contiguous,
    aten.dropout,
    aten.bernoulli.default,
    aten.bernoulli.p,
    aten.fill,
    aten.zero,
    aten.zeros_like,
    aten.ones_like,
    aten.empty_like,
    aten.full_like,
    aten.rand_like,
    aten.randn_like,
    aten.resolve_conj,
    aten.resolve_neg,
    aten._conj,
    aten._neg_view,
    aten.uniform,
    aten.exponential,
    aten.geometric,
    aten.cauchy,
    aten.log_normal,
    aten.random,
)
def same(call: Call) -> None:
    """One tensor in, the same positions out."""
    call.result(call.axes(call.tensors()[0]))


@rule(aten.prelu)
def prelu(call: Call) -> None:
    """A slope for each channel (dim 1), or one for all."""
    x, slope = call.axes("self"), call.axes("weight")
    if slope and slope[0].size > 1:
        call.labels.unify(x[min(1, len(x) - 1)], slope[0])
    call.result(x)
