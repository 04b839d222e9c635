"""Samples of every operator that has a rule, by family.

`free` counts the ids that stay free on all operands and outputs; it is written as the sum over the
axes that carry them.
"""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from tests.rules import adapters as adapt
from tests.rules.oracle import Operand, Sample

aten = torch.ops.aten


def x(*shape: int) -> Operand:
    """A labelled operand of normal (or all-negative) numbers."""
    return Operand(shape)


def positive(*shape: int) -> Operand:
    """A labelled operand of numbers around 1."""
    return Operand(shape, "positive")


def unit(*shape: int) -> Operand:
    """A labelled operand of numbers in [0, 1)."""
    return Operand(shape, "unit")


def boolean(*shape: int) -> Operand:
    """A labelled operand of truth values."""
    return Operand(shape, "boolean")


def unknown(values: torch.Tensor) -> Operand:
    """A labelled operand of integers that the rule cannot see."""
    return Operand(tuple(values.shape), given=values)


def index(*positions: int) -> torch.Tensor:
    """Known positions."""
    return torch.tensor(positions)


CONTRACTION = [
    Sample(aten.mm.default, (x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(4), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(2, 4), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(2, 1), x(2, 3), x(3, 4)), 2 + 3 + 4),
    Sample(aten.addmm.default, (x(4), x(2, 3), x(3, 4)), 9, {"beta": 0.5, "alpha": 2.0}),
    Sample(aten.bmm.default, (x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.baddbmm.default, (x(5, 2, 4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.baddbmm.default, (x(5, 1, 4), x(5, 2, 3), x(5, 3, 4)), 5 + 2 + 3 + 4),
    Sample(aten.mv.default, (x(2, 3), x(3)), 2 + 3),
    Sample(aten.dot.default, (x(3), x(3)), 3),
    Sample(aten.vdot.default, (x(3), x(3)), 3),
    Sample(aten.linear.default, (x(2, 3), x(4, 3)), 2 + 3 + 4),
    Sample(aten.linear.default, (x(2, 5, 3), x(4, 3), x(4)), 2 + 5 + 3 + 4),
]


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


def made(op: OpOverload, *args: object, free: int, random: bool = False) -> Sample:
    """A factory that names sizes of its output (the first argument that is a list)."""
    return Sample(op, args, free, adapt=adapt.sizes("size"), random=random)


FACTORIES = [
    made(aten.empty.memory_format, [2, 3], free=2 + 3, random=True),
    made(aten.zeros.default, [2, 3], free=2 + 3),
    made(aten.zeros.default, [2, 1], free=2),
    made(aten.ones.default, [2, 3], free=2 + 3),
    made(aten.full.default, [2, 3], 7.0, free=2 + 3),
    made(aten.new_empty.default, x(4), [2, 3], free=4 + 2 + 3, random=True),
    made(aten.new_zeros.default, x(4), [2, 3], free=4 + 2 + 3),
    made(aten.new_ones.default, x(4), [2, 3], free=4 + 2 + 3),
    made(aten.new_full.default, x(4), [2, 3], 7.0, free=4 + 2 + 3),
    Sample(aten.empty_strided.default, ([2, 3], [3, 1]), 2 + 3, adapt=adapt.strided, random=True),
    Sample(
        aten.new_empty_strided.default,
        (x(4), [2, 3], [3, 1]),
        4 + 2 + 3,
        adapt=adapt.strided,
        random=True,
    ),
    Sample(aten.arange.default, (4,), 0),
    Sample(aten.arange.start, (1, 4), 0),
    Sample(aten.arange.start_step, (1, 8, 2), 0),
    Sample(aten.linspace.default, (0.0, 1.0, 4), 0),
    Sample(aten.linspace.Tensor_Tensor, (x(), x(), 4), 0),
    Sample(aten.linspace.Tensor_Scalar, (x(), 1.0, 4), 0),
    Sample(aten.linspace.Scalar_Tensor, (0.0, x(), 4), 0),
    Sample(aten.logspace.default, (0.0, 1.0, 4), 0),
    Sample(aten.logspace.Tensor_Tensor, (x(), x(), 4), 0),
    Sample(aten.logspace.Tensor_Scalar, (x(), 1.0, 4), 0),
    Sample(aten.logspace.Scalar_Tensor, (0.0, x(), 4), 0),
    Sample(aten.eye.default, (3,), 0),
    Sample(aten.eye.m, (3, 4), 0),
    Sample(aten.rand.default, ([2, 3],), 0, random=True),
    Sample(aten.rand.generator, ([2, 3],), 0, {"generator": None}, random=True),
    Sample(aten.randn.default, ([2, 3],), 0, random=True),
    Sample(aten.randn.generator, ([2, 3],), 0, {"generator": None}, random=True),
    Sample(aten.randint.default, (5, [2, 3]), 0, random=True),
    Sample(aten.randint.generator, (5, [2, 3]), 0, {"generator": None}, random=True),
    Sample(aten.randint.low, (2, 5, [2, 3]), 0, random=True),
    Sample(aten.randint.low_generator, (2, 5, [2, 3]), 0, {"generator": None}, random=True),
    Sample(aten.randperm.default, (5,), 0, random=True),
    Sample(aten.randperm.generator, (5,), 0, {"generator": None}, random=True),
    Sample(aten.normal.float_float, (0.0, 1.0, [2, 3]), 0, random=True),
    Sample(aten.scalar_tensor.default, (2.0,), 0),
    Sample(aten.tril_indices.default, (3, 3), 0),
    Sample(aten.triu_indices.default, (3, 3), 0),
]

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
    Sample(aten.index.Tensor, (x(2, 5), [None, index(3, 1, -1)]), 2 + 5, adapt=adapt.index_list),
    Sample(aten.index.Tensor, (x(5, 2, 3), [index(3, 1, 1)]), 5 + 2 + 3, adapt=adapt.index_list),
    Sample(
        aten._unsafe_index.Tensor,
        (x(2, 5), [None, index(3, 1, -1)]),
        2 + 5,
        adapt=adapt.index_list,
    ),
    Sample(aten.index.Tensor, (x(2, 5, 3), [None, unknown(index(3, 1))]), 2 + 2 + 3),
    Sample(aten.index.Tensor, (x(2, 5), [None, torch.tensor([[3, 1], [0, 2]])]), 2),
    Sample(aten.index.Tensor, (x(2, 4, 3), [None, index(3, 1), index(0, 2)]), 2),
    Sample(aten.index.Tensor, (x(4, 2, 3), [index(3, 1), None, index(0, 2)]), 2),
    Sample(aten.index.Tensor, (x(4, 2), [unknown(index(3, 1)), unknown(index(0, 1))]), 0),
    Sample(aten.embedding.default, (x(5, 3), torch.tensor([[0, 4], [2, 2]])), 3),
    Sample(aten.embedding.default, (x(5, 3), unknown(torch.tensor([[0, 4], [2, 2]]))), 2 + 2 + 3),
]

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
]


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
]


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
]


def view(before: tuple[int, ...], after: list[int], free: int) -> list[Sample]:
    """The same numbers in another shape, by all operators that do so."""
    contiguous = torch.empty(after).stride()
    return [
        Sample(aten.view.default, (x(*before), after), free, adapt=adapt.sizes("size")),
        Sample(aten._unsafe_view.default, (x(*before), after), free, adapt=adapt.sizes("size")),
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
    Sample(aten.view.dtype, (x(2, 4), torch.float32), 2),
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
    Sample(aten.pixel_shuffle.default, (x(2, 12, 2, 3), 2), 2 + 3),
    Sample(aten.pixel_unshuffle.default, (x(2, 3, 4, 6), 2), 2 + 3),
    Sample(aten.channel_shuffle.default, (x(2, 6, 2, 2), 3), 2 + 2 + 2 + 2),
    Sample(aten.native_channel_shuffle.default, (x(2, 6, 2, 2), 2), 2 + 3 + 2 + 2),
]


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
    Sample(aten.max_unpool2d.default, (x(2, 3, 2, 2), unpooled(2, 3, 2, 2), [4, 4]), 2 + 3),
    Sample(
        aten.max_unpool3d.default,
        (x(2, 3, 2, 2, 2), unpooled(2, 3, 2, 2, 2), [4] * 3, [2] * 3, [0] * 3),
        2 + 3,
    ),
    Sample(aten.grid_sampler_2d.default, (x(2, 3, 4, 4), unit(2, 5, 5, 2), 0, 0, False), 2 + 3),
    Sample(
        aten.grid_sampler_3d.default, (x(2, 3, 4, 4, 4), unit(2, 5, 5, 5, 3), 0, 0, False), 2 + 3
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
]

SAMPLES = [
    *CONTRACTION,
    *CONVOLUTION,
    *FACTORIES,
    *INDEXING,
    *MOVEMENT,
    *NORMALIZATION,
    *POINTWISE,
    *REDUCTION,
    *RESHAPING,
    *WINDOWS,
]

NO_KERNEL = "there is no CPU kernel; it shares the rule of its sampled sibling"
NEVER_ARRIVES = "torch turns it into another operator before a rule could see it"

UNSAMPLED: dict[OpOverload, str] = {
    aten.mm.dtype: NO_KERNEL,
    aten.addmm.dtype: NO_KERNEL,
    aten.bmm.dtype: NO_KERNEL,
    aten.baddbmm.dtype: NO_KERNEL,
    aten.convolution_overrideable.default: NO_KERNEL,
    aten._batch_norm_no_update.default: "with and without data it saves statistics of other shapes",
    aten.cudnn_batch_norm.default: NO_KERNEL,
    aten.miopen_batch_norm.default: NO_KERNEL,
    aten.to.device: NEVER_ARRIVES,
    aten.tensor_split.tensor_indices_or_sections: NEVER_ARRIVES,
    aten.copy.Dict_Tensor: "TorchScript's, for dicts",
    aten.sort.Tensor: "TorchScript's, for lists",
}
"""Operators with a rule and without a sample, and why."""
