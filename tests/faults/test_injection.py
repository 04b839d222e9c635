"""A fault is there inside the block, for whoever holds a reference, and gone after it."""

from __future__ import annotations

import pytest
import torch

from faults.injection import CannotInjectError, Edit, Missing, WrongRule
from fxprune.labels import LabelAlgebra
from fxprune.passes.repairs import ALWAYS
from fxprune.rules import lookup, registered

aten = torch.ops.aten


def merged() -> list[int]:
    labels = LabelAlgebra()
    pair = [labels.fresh_axis(2), labels.pinned_axis(2)]
    (vector,) = labels.merge(pair).vectors
    return [int(n) for n in vector]


MERGE = Edit(
    "labels.algebra:LabelAlgebra.merge",
    "np.tile(np.repeat(v, inner), outer)",
    "np.repeat(np.tile(v, inner), outer)",
)


def test_an_edited_method_does_otherwise_until_the_block_ends() -> None:
    method = LabelAlgebra.merge
    before = merged()
    with MERGE.applied():
        assert LabelAlgebra.merge is method
        assert merged() != before
    assert merged() == before


def test_an_edit_ends_with_an_error_too() -> None:
    before = merged()
    with pytest.raises(KeyError), MERGE.applied():
        raise KeyError
    assert merged() == before


def test_an_edit_reaches_the_rule_in_the_table() -> None:
    rule = registered()[aten.flip.default].propagate
    code = rule.__code__
    with Edit("rules.movement:flip", "slice(None, None, -1)", "slice(None)").applied():
        assert rule.__code__ is not code
    assert rule.__code__ is code


def test_an_edit_reaches_a_function_that_another_made() -> None:
    change = ALWAYS["conv2d"]
    code = change.__code__
    with Edit("passes.size_repairs:conv_groups", "if groups == before:", "if True:").applied():
        assert change.__code__ is not code
    assert change.__code__ is code


@pytest.mark.parametrize(
    ("where", "old", "new", "why"),
    [
        ("rules.movement:flip", "slice(1, 2)", "slice(None)", "is there 0x"),
        ("rules.movement:flip", "x", "y", "x"),
        ("rules.movement:flip", "slice(None, None, -1)", "slice(\nNone)", "must not move lines"),
        ("rules.movement:flip", "slice(None, None", "slice(None, None", "no function changes"),
        ("rules.movement:flop", "x", "y", "there is no function flop"),
    ],
)
def test_an_edit_that_does_not_fit_is_an_error(where: str, old: str, new: str, why: str) -> None:
    with pytest.raises(CannotInjectError, match=why), Edit(where, old, new).applied():
        pass


def test_a_missing_entry_comes_back_at_its_place() -> None:
    before = list(ALWAYS)
    with Missing("passes.repairs:ALWAYS", ("roll",)).applied():
        assert "roll" not in ALWAYS
    assert list(ALWAYS) == before


def test_an_entry_that_is_not_there_cannot_be_missing() -> None:
    fault = Missing("passes.repairs:ALWAYS", ("rolled",))
    with pytest.raises(CannotInjectError, match="rolled"), fault.applied():
        pass


def test_a_wrong_rule_is_found_by_in_place_variants_too() -> None:
    rule = lookup(aten.bmm.default)
    assert rule is not None
    with WrongRule(("bmm",), sums=False).applied():
        wrong = lookup(aten.bmm.default)
        assert wrong is not None
        assert wrong.propagate is rule.propagate
        assert wrong.sums is not rule.sums
    assert lookup(aten.bmm.default) is rule


def test_an_operator_without_a_rule_cannot_have_a_wrong_one() -> None:
    with pytest.raises(CannotInjectError, match="relu"), WrongRule(("relu",)).applied():
        pass
