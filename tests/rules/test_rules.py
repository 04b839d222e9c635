"""Every registered rule against its samples, in both directions."""

import pytest
from torch._ops import OpOverload

from fxprune.rules import registered
from fxprune.testing import Sample, check_rule
from tests.rules.samples import SAMPLES, UNSAMPLED


def takes_tensors(op: OpOverload) -> bool:
    """Whether an operator has to do with tensors at all; TorchScript's do not."""
    schema = op._schema
    return any("Tensor" in str(value.type) for value in (*schema.arguments, *schema.returns))


def writes_to_out(op: OpOverload) -> bool:
    """Whether an operator is an `out=` variant, which the functional one stands for."""
    return any(argument.is_out for argument in op._schema.arguments)


FUNCTIONAL = {
    op: rule
    for op, rule in registered().items()
    if op.namespace == "aten" and takes_tensors(op) and not writes_to_out(op)
}


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_rule_is_right_whatever_is_removed_and_pins_no_more_than_it_must(sample: Sample) -> None:
    assert sample.free is not None
    check_rule(sample.op, sample)


def test_every_operator_with_a_rule_has_a_sample_or_a_reason() -> None:
    assert {str(op) for op in FUNCTIONAL} - {str(s.op) for s in SAMPLES} == set(map(str, UNSAMPLED))


def test_every_rule_function_has_a_sample() -> None:
    sampled = {FUNCTIONAL[sample.op].propagate for sample in SAMPLES}
    missing = {rule.propagate for rule in FUNCTIONAL.values()} - sampled
    assert {function.__qualname__ for function in missing} == set()


def test_every_sample_is_of_an_operator_with_a_rule_of_its_own() -> None:
    assert [str(sample) for sample in SAMPLES if sample.op not in FUNCTIONAL] == []
