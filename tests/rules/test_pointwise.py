"""Every operator that torch tags as pointwise really treats each position on its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch._ops import OpOverload

from fxprune.testing import Operand, Sample, check_rule

SHAPES = ((2, 3), (3,), (2, 1), (2, 3), (3,), (2, 3))
# What an argument without a default gets, by its type in the schema.
VALUES = {"number": 0.5, "float": 0.5, "int": 1, "bool": False, "str": "none"}


def pointwise_operators() -> Iterator[OpOverload]:
    """The ATen operators with the tag, in-place ones too, `out=` ones not."""
    for full_name in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, name = full_name.partition("::")
        packet, _, overload = name.partition(".")
        if namespace == "aten" and hasattr(torch.ops.aten, packet):
            op = getattr(getattr(torch.ops.aten, packet), overload or "default")
            is_out = any(argument.is_out for argument in op._schema.arguments)
            returns_tensor = any("Tensor" in str(value.type) for value in op._schema.returns)
            if torch.Tag.pointwise in op.tags and returns_tensor and not is_out:
                yield op


def operand(shape: tuple[int, ...], kind: str) -> Operand:
    if kind == "integer":
        return Operand(shape, given=torch.arange(torch.Size(shape).numel()).reshape(shape) + 1)
    return Operand(shape, kind)  # type: ignore[arg-type]


def sample_of(op: OpOverload, kinds: tuple[str, ...]) -> Sample:
    """A call with broadcast operands; `kinds` says of which sort the first and the others are."""
    shapes = iter(SHAPES)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, argument in enumerate(op._schema.arguments):
        is_limit = argument.name in ("min", "max")
        if "Tensor" in str(argument.type) and (is_limit or not argument.has_default_value()):
            value: Any = operand(next(shapes), kinds[min(number, len(kinds) - 1)])
        elif is_limit:
            value = 0.5
        elif argument.has_default_value():
            continue
        else:
            value = VALUES.get(str(argument.type))
            value = 1 if value == 0.5 and kinds == ("integer",) else value
        if argument.kwarg_only:
            kwargs[argument.name] = value
        else:
            args.append(value)
    return Sample(op, tuple(args), 2 + 3, kwargs)


def runs(sample: Sample) -> bool:
    """Whether the operator takes operands of these sorts."""
    generator = torch.Generator()
    args, kwargs = (
        torch.utils._pytree.tree_map(
            lambda v: v.draw(generator, negative=False) if isinstance(v, Operand) else v,
            given,
            is_leaf=lambda v: isinstance(v, Operand),
        )
        for given in (sample.args, sample.kwargs)
    )
    try:
        sample.op(*args, **kwargs)
    except (RuntimeError, NotImplementedError):
        return False
    return True


@cache
def samples() -> dict[str, Sample | None]:
    """For each operator a call that it takes, or None."""
    found: dict[str, Sample | None] = {}
    for op in pointwise_operators():
        sorts = (("positive",), ("integer",), ("positive", "boolean"), ("boolean", "positive"))
        calls = (sample_of(op, sort) for sort in sorts)
        found[str(op).removeprefix("aten.")] = next((call for call in calls if runs(call)), None)
    return found


def test_there_are_hundreds_of_pointwise_operators_and_all_can_be_called() -> None:
    assert len(samples()) > 300
    assert [name for name, sample in samples().items() if sample is None] == []


@pytest.mark.parametrize("name", samples())
def test_a_pointwise_operator_keeps_each_position_apart(name: str) -> None:
    sample = samples()[name]
    assert sample is not None
    check_rule(sample.op, sample, removals=2)
