"""The oracle finds rules that are wrong, and rules that are too careful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fxprune.rules import Call, Rule, lookup
from fxprune.testing import NeedlessPinError, Sample, WrongRuleError, check_rule
from fxprune.testing import adapters as adapt
from tests.rules.samples.attention import ATTENTION
from tests.rules.samples.convolution import conv
from tests.rules.samples.operands import NO_CHANNELS, index, positive, unknown, x
from tests.rules.samples.reduction import reduction

aten = torch.ops.aten

Propagate = Callable[[Call], None]


def as_it_is(call: Call) -> None:
    call.result(call.axes(call.tensors()[0]))


def cat_in_reverse(call: Call) -> None:
    axes = [call.axes(part) for part in call.arg("tensors")]
    for x_ in axes[1:]:
        call.labels.unify(axes[0][0], x_[0])
    call.result([axes[0][0], call.labels.concat([x_[1] for x_ in reversed(axes)])])


def roll_the_other_way(call: Call) -> None:
    batch, axis = call.axes("self")
    positions = np.roll(np.arange(axis.size), -call.arg("shifts")[0])
    call.result([batch, call.labels.take(axis, positions)])


def repeat_each(call: Call) -> None:
    batch, axis = call.axes("self")
    call.result([batch, call.labels.take(axis, np.repeat(np.arange(axis.size), 2))])


def merge_in_reverse(call: Call) -> None:
    a, b = call.axes("self")
    call.result([call.labels.merge([b, a])])


def mm_without_contraction(call: Call) -> None:
    call.result([call.axes("self")[0], call.axes("mat2")[1]])


def add_without_coupling(call: Call) -> None:
    call.result(call.axes("self"))


def drop_dim_1(call: Call) -> None:
    batch, _, last = call.axes("self")
    call.result([batch, last])


def conv_without_groups(call: Call) -> None:
    batch, _, *spatial = call.axes("input")
    call.pin([*spatial, *call.axes("weight")[2:]], "spatial")
    call.labels.unify(call.axes("weight")[0], call.axes("bias")[0])
    sizes = call.out.shape[2:]
    call.result([batch, call.axes("weight")[0], *[call.pinned(size) for size in sizes]])


def norm_without_weight(call: Call) -> None:
    first, *_ = call.outputs()
    assert first.dim() == 2
    call.result(call.axes("input"))


def rows_can_go(call: Call) -> None:
    call.result([call.pinned(2), call.axes("weight")[1]])


def gather_without_coupling(call: Call) -> None:
    call.pin([call.axes("self")[1]], "gathered")
    call.result(call.axes("index"))


def scatter_that_forgets_the_source(call: Call) -> None:
    x_, places, source = (call.axes(name) for name in ("self", "index", "src"))
    call.pin([x_[1]], "written")
    for axis in (places[0], source[0]):
        call.labels.unify(x_[0], axis)
    call.labels.unify(places[1], source[1])
    call.result(x_)


def fourier_element_wise(call: Call) -> None:
    call.result(call.axes("self"))


def attention_without_keys(call: Call) -> None:
    query, key, value = (call.axes(name) for name in ("query", "key", "value"))
    for axis, other in ((query[0], key[0]), (query[1], key[1]), (query[3], key[3])):
        call.labels.unify(axis, other)
    for axis, other in zip(key, value, strict=True):
        call.labels.unify(axis, other)
    first, sums = call.outputs()
    call.label(first, query)
    call.label(sums, query[:3])


def fold_by_columns(call: Call) -> None:
    batch, channels, windows = call.axes("self")
    rows, columns = call.labels.split(channels, 4, channels.size // 4)
    call.pin([rows, windows], "windows")
    sizes = call.out.shape[2:]
    call.result([batch, columns, *[call.pinned(size) for size in sizes]])


def diagonal_of_rows(call: Call) -> None:
    rows, columns = call.axes("self")
    call.pin([columns], "not looked at")
    call.result([rows])


def pixel_shuffle_by_columns(call: Call) -> None:
    batch, channels, *spatial = call.axes("self")
    rows, columns = call.labels.split(channels, 4, channels.size // 4)
    call.pin([rows, *spatial], "spatial")
    sizes = call.out.shape[2:]
    call.result([batch, columns, *[call.pinned(size) for size in sizes]])


def only(propagate: Propagate) -> Rule:
    """A rule that neither sums nor normalizes."""
    return Rule(propagate)


def without_sums(sample: Sample) -> Rule:
    rule = lookup(sample.op)
    assert rule is not None
    return only(rule.propagate)


FLIP = Sample(aten.flip.default, (x(2, 6), [1]), 8)
CAT = Sample(aten.cat.default, ([x(2, 3), x(2, 4)], 1), 9)
SOFTMAX = Sample(aten._softmax.default, (x(2, 4), 1, False), 6)
ROLL = Sample(aten.roll.default, (x(2, 6), [2], [1]), 8, adapt=adapt.rolled)
REPEAT = Sample(aten.repeat.default, (x(2, 3), [1, 2]), 5)
FLATTEN = Sample(aten.flatten.using_ints, (x(3, 4),), 7)
MM = Sample(aten.mm.default, (x(2, 3), x(3, 4)), 9)
ADD = Sample(aten.add.Tensor, (x(2, 3), x(2, 3)), 5)
SUM = reduction(aten.sum.dim_IntList, [1])
MEAN = reduction(aten.mean.dim, [1])
AMAX = reduction(aten.amax.default, [1])
ARGMAX = reduction(aten.argmax.default, 1, free=6)
CUMSUM = reduction(aten.cumsum.default, 1, free=6)
DEPTHWISE = conv((2, 4, 4, 4), (4, 1, 2, 2), 4, 6)
GROUPED = conv((2, 6, 4, 4), (4, 3, 2, 2), 2, 9)
TRAINING = Sample(
    aten.native_batch_norm.default,
    (x(4, 3), x(3), x(3), x(3), positive(3), True, 0.1, 1e-5),
    7,
)
LAYER_NORM = Sample(
    aten.native_layer_norm.default,
    (x(2, 4), [4], x(4), x(4), 1e-5),
    6,
    adapt=adapt.trailing_shape,
)
EMBEDDING = Sample(aten.embedding.default, (x(5, 3), index(0, 4)), 3)
GATHER = Sample(aten.gather.default, (x(2, 5), 1, unknown(torch.tensor([[4, 0], [2, 2]]))), 2 + 2)
SCATTER = Sample(
    aten.scatter.src, (x(2, 5), 1, unknown(torch.tensor([[4, 0, 1], [2, 3, 0]])), x(2, 3)), 2
)
QKV = ATTENTION[0]
FOURIER = Sample(aten._fft_r2c.default, (x(2, 4), [1], 0, False), 2)
FOLD = Sample(aten.col2im.default, (x(2, 12, 9), [4, 4], [2, 2], [1, 1], [0, 0], [1, 1]), 5)
DIAGONAL = Sample(aten.diagonal.default, (x(3, 3),), 3)
PIXELS = Sample(aten.pixel_shuffle.default, (x(2, 12, 2, 3), 2), 5, pinned=NO_CHANNELS)


def total_rule() -> Rule:
    """`sum` by rule, for operators that look across an axis in another way."""
    rule = lookup(aten.sum.dim_IntList)
    assert rule is not None
    return rule


WRONG: dict[str, tuple[Sample, Rule]] = {
    "a flip that changes nothing": (FLIP, only(as_it_is)),
    "a concat in reverse order": (CAT, only(cat_in_reverse)),
    "a softmax that is element-wise": (SOFTMAX, only(as_it_is)),
    "a roll the other way": (ROLL, only(roll_the_other_way)),
    "a repeat that interleaves": (REPEAT, only(repeat_each)),
    "a flatten with columns first": (FLATTEN, only(merge_in_reverse)),
    "a product of operands that are not coupled": (MM, only(mm_without_contraction)),
    "a product that does not sum": (MM, without_sums(MM)),
    "a sum of operands that are not coupled": (ADD, only(add_without_coupling)),
    "a sum that sees removed positions": (SUM, without_sums(SUM)),
    "a mean over removed positions": (MEAN, total_rule()),
    "a maximum that sees zeros": (AMAX, total_rule()),
    "positions that may change": (ARGMAX, only(drop_dim_1)),
    "a running sum without what went before": (CUMSUM, only(as_it_is)),
    "a depthwise convolution that is not": (DEPTHWISE, only(conv_without_groups)),
    "a grouped convolution that is not": (GROUPED, only(conv_without_groups)),
    "batch statistics over removed samples": (TRAINING, without_sums(TRAINING)),
    "a norm that forgets its weight": (LAYER_NORM, only(norm_without_weight)),
    "a table whose rows can go": (EMBEDDING, only(rows_can_go)),
    "a gather of operands that are not coupled": (GATHER, only(gather_without_coupling)),
    "a scatter whose entries can be left out": (SCATTER, only(scatter_that_forgets_the_source)),
    "a Fourier transform that is element-wise": (FOURIER, only(fourier_element_wise)),
    "attention that sees removed keys": (QKV, only(attention_without_keys)),
    "attention that does not sum": (QKV, without_sums(QKV)),
    "windows with rows and columns swapped": (FOLD, only(fold_by_columns)),
    "a diagonal that stays where rows go": (DIAGONAL, only(diagonal_of_rows)),
    "a pixel shuffle with rows and columns swapped": (PIXELS, only(pixel_shuffle_by_columns)),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_oracle_finds(name: str) -> None:
    sample, rule = WRONG[name]
    with pytest.raises(WrongRuleError):
        check_rule(sample.op, sample, rule=rule)


@pytest.mark.parametrize("sample", {str(s): s for s, _ in WRONG.values()}.values(), ids=str)
def test_the_right_rule_of_the_same_operator_passes(sample: Sample) -> None:
    check_rule(sample.op, sample)


def pin_all(call: Call) -> None:
    for tensor in call.tensors():
        call.pin(call.axes(tensor), "to be on the safe side")
    call.result([call.pinned(size) for size in call.out.shape])


def couple_all(call: Call) -> None:
    axes = call.axes("self")
    for axis in axes:
        first = call.labels.take(axis, [0] * axis.size)
        call.labels.unify(axis, first)
    call.result(axes)


@pytest.mark.parametrize("propagate", [pin_all, couple_all])
def test_a_rule_that_leaves_fewer_ids_free_than_the_sample_says_is_refused(
    propagate: Propagate,
) -> None:
    sample = Sample(aten.relu.default, (x(2, 3),), 2 + 3, pinned="only the count is of interest")
    with pytest.raises(NeedlessPinError, match="ids are free, but the sample says 5"):
        check_rule(sample.op, sample, rule=only(propagate))


def test_all_negative_numbers_find_what_random_ones_do_not() -> None:
    """Zeros in place of removed positions change a maximum only where all else is negative."""
    large = replace(AMAX, args=(x(2, 30, 4), [1]), free=36)
    with pytest.raises(WrongRuleError):
        check_rule(large.op, large, rule=total_rule(), removals=1)
