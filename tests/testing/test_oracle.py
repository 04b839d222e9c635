"""`check_rule` as a user meets it: what it accepts, and what its errors tell."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

import fxprune
from fxprune import FxPruneError, InputError
from fxprune.rules import Call, Rule, lookup
from fxprune.testing import (
    Kept,
    NeedlessPinError,
    Operand,
    Sample,
    WrongRuleError,
    adapters,
    check_rule,
)

aten = torch.ops.aten
ROLL = Sample(aten.roll.default, (Operand((2, 6)), [2], [1]), adapt=adapters.rolled)
MM = Sample(aten.mm.default, (Operand((2, 3)), Operand((3, 4))))
RELU = Sample(aten.relu.default, (Operand((2, 3)),))


def unmoved(call: Call) -> None:
    call.result(call.axes("self"))


def one_sided(call: Call) -> None:
    """The contracted axis of the first operand may go, that of the second stays."""
    call.pin([call.axes("mat2")[0]], "stays")
    call.result([call.axes("self")[0], call.axes("mat2")[1]])


def refusal(sample: Sample, propagate: Callable[[Call], None]) -> FxPruneError:
    """The error for a sample under another rule."""
    with pytest.raises(FxPruneError) as caught:
        check_rule(sample.op, sample, rule=Rule(propagate))
    return caught.value


# What passes


def test_a_sample_may_leave_the_number_of_free_ids_open() -> None:
    check_rule(aten.mm.default, MM)


def test_all_overloads_of_a_packet_can_be_checked_together() -> None:
    scalar = Sample(aten.add.Scalar, (Operand((2, 3)), 1.0))
    tensor = Sample(aten.add.Tensor, (Operand((2, 3)), Operand((3,))))
    check_rule(aten.add, scalar, tensor)


def test_an_adapter_of_ones_own_tells_the_sizes_that_are_kept() -> None:
    def sizes(kept: Kept) -> dict[str, list[int]]:
        return {"size": [kept.size("self", 0), *kept.shape()[1:]]}

    sample = Sample(aten.view.default, (Operand((2, 12)), [2, 3, 4]), adapt=sizes)
    check_rule(aten.view.default, sample)


# What a wrong rule is told


def test_a_wrong_rule_is_told_the_positions_and_the_numbers() -> None:
    error = refusal(ROLL, unmoved)
    assert isinstance(error, WrongRuleError)
    assert error.what == "roll.default(2x6,[2],[1]): slicing before and after the operator differ"
    assert "removed: self dim " in str(error.where)
    assert "; output 0 dim 1 positions " in str(error.where)
    assert "kept places, dim 0 positions " in error.why
    assert " instead of " in error.why
    assert "labels.take" in error.hint


def test_the_positions_are_those_before_slicing() -> None:
    """The rule swaps the first two positions that come out, so only these may be blamed."""

    def swapped(call: Call) -> None:
        batch, axis = call.axes("self")
        call.pin([batch, call.labels.take(axis, [0, 1, 2, 3])], "stays")
        call.result([batch, call.labels.take(axis, np.array([5, 4, 0, 1, 2, 3]))])

    error = refusal(ROLL, swapped)
    assert re.search(r"dim 1 positions [01]: at \(0, [01]\) it is", error.why)


def test_another_shape_is_told() -> None:
    def halved(call: Call) -> None:
        batch, axis = call.axes("self")
        call.result([batch, call.pinned(axis.size)])

    error = refusal(RELU, halved)
    assert error.why.startswith("output 0 has the shape (")
    assert " instead of (" in error.why


def test_operands_that_the_operator_refuses_are_told() -> None:
    error = refusal(MM, one_sided)
    assert isinstance(error, WrongRuleError)
    assert "does not run on the sliced operands" in error.what
    assert "cannot be multiplied" in error.why
    assert "couple the operands" in error.hint


def test_a_rule_that_frees_more_than_the_sample_says_is_refused() -> None:
    sample = Sample(aten.relu.default, (Operand((2, 3)),), free=4)
    with pytest.raises(WrongRuleError, match="5 ids are free, but the sample says 4"):
        check_rule(aten.relu.default, sample)


# What is refused


def test_no_sample_is_an_error() -> None:
    with pytest.raises(InputError, match="there is no sample of"):
        check_rule(aten.relu.default)


def test_a_sample_of_another_operator_is_an_error() -> None:
    with pytest.raises(InputError, match="not of aten"):
        check_rule(aten.neg.default, RELU)


def test_an_operator_without_a_rule_is_an_error() -> None:
    sample = Sample(aten.cholesky_solve.default, (Operand((3, 3)), Operand((3, 3))))
    assert lookup(sample.op) is None
    with pytest.raises(FxPruneError, match="has no label rule") as caught:
        check_rule(sample.op, sample)
    assert "@fxprune.rule(torch.ops.aten.cholesky_solve.default)" in str(caught.value)


@pytest.mark.parametrize("error", [WrongRuleError, NeedlessPinError])
def test_the_errors_of_the_oracle_are_fxprune_errors(error: type[Exception]) -> None:
    assert issubclass(error, fxprune.FxPruneError)
