"""Operators that fxprune does not know: reported, taken apart, or taught a rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxprune
from fxprune.rules import Call
from fxprune.testing import Sample, WrongRuleError, check_rule
from tests.rules.samples.operands import x

ours = torch.ops.fxprune_tests


class Scale(nn.Module):
    """Scales channels by an operator of our own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = ours.scale(x, self.weight)
        return out


class Scaled(nn.Sequential):
    """A convolution, the operator, another convolution."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), Scale(8), nn.Conv2d(8, 4, 3))


@pytest.fixture
def model() -> nn.Module:
    return Scaled().eval()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def scale_rule(call: Call) -> None:
    x, weight = call.axes("x"), call.axes("weight")
    call.labels.unify(x[1], weight[0])
    call.result(x)


def test_an_unknown_operator_pins_what_it_touches_and_says_what_to_do(
    model: nn.Module, inputs: Tensor
) -> None:
    deps = fxprune.analyze(model, inputs)
    assert not any(group.prunable for group in deps.groups)
    found = [d for d in deps.diagnostics if "no label rule" in d.what]
    assert len(found) == 1
    assert found[0].where.op == "fxprune_tests.scale.default"
    assert found[0].where.node == "scale"
    assert found[0].where.module == "1"
    assert "test_custom_rules.py" in found[0].where.source
    assert "in forward" in found[0].where.source
    assert "@fxprune.rule(torch.ops.fxprune_tests.scale.default)" in found[0].hint


def test_every_part_of_the_report_is_in_its_text(model: nn.Module, inputs: Tensor) -> None:
    text = str(fxprune.analyze(model, inputs))
    for part in ("fxprune_tests.scale.default", "node scale", "module 1", "test_custom_rules.py"):
        assert part in text


def test_an_unknown_operator_pins_only_what_it_touches(inputs: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), Scale(8), nn.Conv2d(8, 4, 2))
    deps = fxprune.analyze(model.eval(), inputs)
    assert [(group.name, group.size) for group in deps.groups if group.prunable] == [("0", 6)]


def test_an_operator_made_of_others_needs_no_rule(inputs: Tensor) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = ours.twice(x)
            return out

    model = nn.Sequential(nn.Conv2d(3, 8, 3), Twice(), nn.Conv2d(8, 4, 3)).eval()
    deps = fxprune.analyze(model, inputs)
    assert deps.diagnostics == ()
    assert [group.size for group in deps.groups if group.prunable] == [8]


def test_a_custom_rule_prunes_the_operator_and_the_result_is_verified(
    model: nn.Module, inputs: Tensor
) -> None:
    fxprune.rule(ours.scale.default)(scale_rule)
    plan = fxprune.plan(model, inputs, ratio=0.5)
    small = fxprune.shrink(model, plan, inputs)
    assert fxprune.verify(model, small, plan, inputs).every_node
    shapes = {name: tuple(tensor.shape) for name, tensor in small.named_parameters()}
    assert shapes["0.weight"] == (4, 3, 3, 3)
    assert shapes["1.weight"] == (4,)
    assert shapes["2.weight"] == (4, 4, 3, 3)


def test_a_custom_rule_that_is_wrong_never_gives_a_wrong_model(
    model: nn.Module, inputs: Tensor
) -> None:
    @fxprune.rule(ours.scale.default)
    def reversed_weight(call: Call) -> None:
        x, weight = call.axes("x"), call.axes("weight")
        call.labels.unify(x[1], call.labels.take(weight[0], slice(None, None, -1)))
        call.result(x)

    plan = fxprune.plan(model, inputs, channels={"0": [0, 1, 2]})
    with pytest.raises(fxprune.VerificationError, match="node scale differs"):
        fxprune.shrink(model, plan, inputs)


def test_the_oracle_checks_custom_rules() -> None:
    sample = Sample(ours.scale.default, (x(2, 3, 4, 4), x(3)), 2 + 3 + 4 + 4)
    fxprune.rule(ours.scale.default)(scale_rule)
    check_rule(ours.scale.default, sample)


def test_the_oracle_refuses_a_custom_rule_that_is_wrong() -> None:
    @fxprune.rule(ours.scale.default)
    def uncoupled(call: Call) -> None:
        call.result(call.axes("x"))

    sample = Sample(ours.scale.default, (x(2, 3, 4, 4), x(3)), 2 + 3 + 4 + 4)
    with pytest.raises(WrongRuleError):
        check_rule(ours.scale.default, sample)
