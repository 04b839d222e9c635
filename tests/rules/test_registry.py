"""The rule table: who may register what, and which rule an operator gets."""

import pytest
import torch

import fxprune
from fxprune.rules import Call, lookup, registered

aten = torch.ops.aten
ours = torch.ops.fxprune_tests


def nothing(call: Call) -> None:
    """A rule that labels nothing."""


def test_registering_gives_back_the_function() -> None:
    assert fxprune.rule(ours.scale.default)(nothing) is nothing
    rule = lookup(ours.scale.default)
    assert rule is not None
    assert rule.propagate is nothing


def test_registering_twice_is_an_error_that_names_the_operator_and_the_first_rule() -> None:
    fxprune.rule(ours.scale.default)(nothing)
    with pytest.raises(fxprune.FxPruneError, match=r"fxprune_tests\.scale\.default") as caught:
        fxprune.rule(ours.scale.default)(nothing)
    assert "nothing" in str(caught.value.where)
    assert caught.value.hint


def test_the_rules_of_fxprune_cannot_be_overwritten() -> None:
    before = registered()
    with pytest.raises(fxprune.FxPruneError, match="already has a label rule"):
        fxprune.rule(aten.mm)(nothing)
    assert registered() == before


def test_a_failed_registration_registers_nothing() -> None:
    with pytest.raises(fxprune.FxPruneError):
        fxprune.rule(ours.scale.default, aten.mm.default)(nothing)
    assert lookup(ours.scale.default) is None


@pytest.mark.parametrize("thing", [torch.relu, "aten::relu", torch.nn.ReLU, None])
def test_what_is_no_operator_is_refused(thing: object) -> None:
    with pytest.raises(fxprune.FxPruneError, match="is not a torch operator") as caught:
        fxprune.rule(thing)(nothing)  # type: ignore[arg-type]
    assert "torch.ops" in caught.value.hint


def test_a_packet_registers_all_its_overloads() -> None:
    fxprune.rule(ours.fold)(nothing)
    assert {ours.fold.default, ours.fold.three} <= set(registered())


def test_an_overload_registers_only_itself() -> None:
    fxprune.rule(ours.fold.three)(nothing)
    assert lookup(ours.fold.default) is None


@pytest.mark.parametrize(
    ("in_place", "functional"),
    [
        (aten.masked_fill_.Scalar, aten.masked_fill.Scalar),
        (aten.squeeze_.dim, aten.squeeze.dim),
        (aten.transpose_.default, aten.transpose.int),
        (aten.cumsum_.default, aten.cumsum.default),
        (aten.hardtanh_.default, aten.hardtanh.default),
        (aten.relu_.default, aten.add.Tensor),
        (aten.add_.Tensor, aten.add.Tensor),
        (aten.zero_.default, aten.zero.default),
    ],
    ids=str,
)
def test_an_in_place_operator_shares_the_rule_of_the_functional_one(
    in_place: torch._ops.OpOverload, functional: torch._ops.OpOverload
) -> None:
    assert lookup(in_place) is lookup(functional) is not None


def test_an_in_place_operator_of_a_library_shares_the_rule_too() -> None:
    assert lookup(ours.fold_.default) is None
    fxprune.rule(ours.fold.default)(nothing)
    assert lookup(ours.fold_.default) is lookup(ours.fold.default) is not None


@pytest.mark.parametrize("op", [aten.relu.default, aten.pow.Tensor_Scalar, ours.shout.default])
def test_an_operator_with_the_tag_gets_the_pointwise_rule(op: torch._ops.OpOverload) -> None:
    assert lookup(op) is lookup(aten.add.Tensor) is not None


def test_an_operator_without_rule_or_tag_has_none() -> None:
    assert lookup(aten.cholesky_solve.default) is None
    assert lookup(ours.scale.default) is None


def test_looking_up_registers_nothing() -> None:
    before = registered()
    assert lookup(aten.relu_.default) is not None
    assert registered() == before


def test_an_operator_that_was_analyzed_before_can_still_get_a_rule() -> None:
    assert lookup(ours.shout.default) is lookup(aten.add.Tensor)
    fxprune.rule(ours.shout.default)(nothing)
    rule = lookup(ours.shout.default)
    assert rule is not None
    assert rule.propagate is nothing


def test_the_table_cannot_be_changed_from_outside() -> None:
    rules = registered()
    assert isinstance(rules, dict)
    rules.clear()
    assert registered()


def test_sums_may_be_a_table_of_operands() -> None:
    fxprune.rule(ours.scale.default, sums={"x": 1})(nothing)
    rule = lookup(ours.scale.default)
    assert rule is not None
    call = Call(None, ours.scale.default, (), {})  # type: ignore[arg-type]
    assert list(rule.sums(call)) == [("x", 1)]
    assert list(rule.normalizes(call)) == []
