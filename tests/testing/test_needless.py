"""Pins that need not be are found without being told how many ids should be free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fxprune.rules import Call, Rule, lookup
from fxprune.testing import NeedlessPinError, Operand, Sample, adapters, check_rule
from fxprune.testing.needless import NeedlessPin, needless_pins
from fxprune.testing.trial import Trial

aten = torch.ops.aten
Propagate = Callable[[Call], None]


def x(*shape: int) -> Operand:
    return Operand(shape)


def unknown(*positions: int) -> Operand:
    """Positions that no rule sees."""
    return Operand((len(positions),), given=torch.tensor(positions))


def pin_all(call: Call) -> None:
    """Nothing goes."""
    for tensor in call.tensors():
        call.pin(call.axes(tensor), "to be on the safe side")
    for out in call.outputs():
        call.result([call.pinned(size) for size in out.shape])
        break


def pin_one(name: str, dim: int) -> Callable[[Sample], Propagate]:
    """The right rule, but one axis stays."""

    def made(sample: Sample) -> Propagate:
        right = lookup(sample.op)
        assert right is not None

        def propagate(call: Call) -> None:
            call.pin([call.axes(name)[dim]], "to be on the safe side")
            right.propagate(call)

        return propagate

    return made


def places(sample: Sample, propagate: Propagate) -> set[tuple[str, int]]:
    """The operands and dims that are found to be pinned without need."""
    right = lookup(sample.op)
    assert right is not None
    rule = Rule(propagate, right.sums, right.normalizes, right.on_kept)
    return {(pin.operand, pin.dim) for pin in needless_pins(Trial(sample, rule))}


def only_samples(value: object) -> str | None:
    """The id of a parameter; a set has no fixed text."""
    return str(value) if isinstance(value, (Sample, str)) else None


RELU = Sample(aten.relu.default, (x(2, 3),))
MM = Sample(aten.mm.default, (x(2, 3), x(3, 4)))
ADD = Sample(aten.add.Tensor, (x(2, 3), x(3)))
SUM = Sample(aten.sum.dim_IntList, (x(2, 3, 4), [1]))
AMAX = Sample(aten.amax.default, (x(2, 3, 4), [1]))
CAT = Sample(aten.cat.default, ([x(2, 3), x(2, 4)], 1))
FLIP = Sample(aten.flip.default, (x(2, 6), [1]))
SPLIT = Sample(
    aten.split_with_sizes.default,
    (x(2, 7), [2, 3, 2], 1),
    adapt=adapters.pieces,
)
VIEW = Sample(aten.view.default, (x(2, 3, 4), [2, 12]), adapt=adapters.sizes("size"))
NORM = Sample(
    aten.native_batch_norm.default,
    (x(2, 3, 4), x(3), x(3), x(3), Operand((3,), "positive"), False, 0.1, 1e-5),
)
CONV = Sample(
    aten.convolution.default,
    (x(2, 3, 5), x(4, 3, 2), x(4), [1], [0], [1], False, [0], 1),
    adapt=adapters.conv_groups,
)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (RELU, {("self", 0), ("self", 1)}),
        (MM, {("self", 0), ("self", 1), ("mat2", 0), ("mat2", 1)}),
        (ADD, {("self", 0), ("self", 1), ("other", 0)}),
        (SUM, {("self", 0), ("self", 1), ("self", 2)}),
        (AMAX, {("self", 0), ("self", 1), ("self", 2)}),
        (FLIP, {("self", 0), ("self", 1)}),
        (VIEW, {("self", 0), ("self", 1), ("self", 2)}),
        (CAT, {("tensors[0]", 0), ("tensors[0]", 1), ("tensors[1]", 0), ("tensors[1]", 1)}),
        (SPLIT, {("self", 0), ("self", 1)}),
        # The kernel axis and the one it slides over stay.
        (CONV, {("input", 0), ("input", 1), ("weight", 0), ("weight", 1), ("bias", 0)}),
        (
            NORM,
            {
                *(("input", dim) for dim in range(3)),
                *((name, 0) for name in ("weight", "bias", "running_mean", "running_var")),
            },
        ),
    ],
    ids=only_samples,
)
def test_a_rule_that_pins_everything_is_told_what_could_go(
    sample: Sample, expected: set[tuple[str, int]]
) -> None:
    assert places(sample, pin_all) == expected


@pytest.mark.parametrize(
    ("sample", "name", "dim", "expected"),
    [
        (RELU, "self", 1, {("self", 1)}),
        (VIEW, "self", 2, {("self", 2)}),
        (MM, "mat2", 1, {("mat2", 1)}),
        # What is pinned on one side stays on the other, and both could go together.
        (MM, "mat2", 0, {("self", 1), ("mat2", 0)}),
    ],
    ids=only_samples,
)
def test_a_rule_that_pins_one_axis_too_many_is_told_which(
    sample: Sample, name: str, dim: int, expected: set[tuple[str, int]]
) -> None:
    assert places(sample, pin_one(name, dim)(sample)) == expected


def test_some_positions_that_are_pinned_too_many_are_found() -> None:
    def first_part_stays(call: Call) -> None:
        batch, axis = call.axes("self")
        call.pin([call.labels.take(axis, [0, 1])], "to be on the safe side")
        call.result([batch, axis])

    (pin,) = needless_pins(Trial(RELU, Rule(first_part_stays)))
    assert pin == NeedlessPin("self", 1, (0, 1), (), zeroed=False)


def test_a_sum_that_is_not_declared_is_suggested() -> None:
    (contracted,) = (p for p in needless_pins(Trial(MM, Rule(pin_all))) if p == found("self", 1))
    assert str(contracted) == (
        "self dim 1 positions 0, 1, 2, together with mat2 dim 0, where sums= names this axis"
    )


def found(operand: str, dim: int) -> NeedlessPin:
    return NeedlessPin(operand, dim, (0, 1, 2), (("mat2", 0),), zeroed=True)


def test_the_error_tells_the_axis_and_what_to_do() -> None:
    with pytest.raises(NeedlessPinError, match="positions are pinned that could be") as caught:
        check_rule(RELU.op, RELU, rule=Rule(pin_all))
    assert "self dim 0 positions 0, 1 | self dim 1 positions 0, 1, 2" in caught.value.why
    assert "Sample(..., pinned='...')" in caught.value.hint


def test_a_sample_may_say_that_a_pin_is_intended() -> None:
    stated = replace(RELU, pinned="this test wants it so")
    check_rule(stated.op, stated, rule=Rule(pin_all))


@pytest.mark.parametrize(
    "sample",
    [
        Sample(aten.avg_pool2d.default, (x(2, 3, 6, 6), [2, 2])),
        Sample(aten.cumsum.default, (x(2, 3, 4), 1)),
        Sample(aten.argmax.default, (x(2, 3, 4), 1)),
        Sample(
            aten.index_select.default, (x(2, 5), 1, Operand((3,), given=torch.tensor([4, 0, 2])))
        ),
        Sample(aten.view.default, (x(4, 6), [6, 4])),
        Sample(aten.randn.default, ([2, 3],), random=True),
    ],
    ids=str,
)
def test_a_pin_that_is_needed_is_not_reported(sample: Sample) -> None:
    check_rule(sample.op, sample)


def test_an_operator_that_refuses_other_numbers_is_left_alone() -> None:
    """Rows that are looked up cannot be out of range: nothing can be tried, nothing is reported."""
    assert needless_pins(Trial(Sample(aten.embedding.default, (x(4, 3), unknown(0, 3, 1))))) == []
