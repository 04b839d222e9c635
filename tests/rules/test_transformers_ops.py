"""The rules of transformers' operators, which are registered by name."""

from __future__ import annotations

import pytest
import torch

from fxprune.rules import registry
from fxprune.testing import Sample, check_rule
from tests.rules.samples.operands import unknown, x

pytest.importorskip("transformers.integrations.moe")
ENDS = torch.tensor([3, 3, 5], dtype=torch.int32)  # the second expert has no tokens
SAMPLES = [
    Sample(
        torch.ops.transformers.grouped_mm_fallback.default,
        (x(5, 4), x(3, 4, 6), ends),
        4 + 6,
    )
    for ends in (ENDS, unknown(ENDS))
]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_rule_is_right_and_pins_no_more_than_it_must(sample: Sample) -> None:
    check_rule(sample.op, sample)


def test_every_rule_by_name_is_of_an_operator_that_transformers_has() -> None:
    names = [name.split("::") for name in registry._NAMED if name.startswith("transformers::")]
    assert names
    for namespace, operator in names:
        assert hasattr(getattr(torch.ops, namespace), operator)
