"""What is known of a node under repair: its arguments, and whether its value is written to."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fxprune
from fxprune import RewriteError
from fxprune.passes import AlignAttributes, Pipeline, RepairShapes, SliceState
from tests.passes.models import (
    EXAMPLE,
    OTHER_SHAPES,
    Between,
    Operator,
    between,
    call,
    conv,
)


def set_item(m: Between, x: Tensor) -> Tensor:
    x[:, 0] = 1.0
    return x


WRITES: dict[str, Operator] = {
    "by a method": lambda m, x: x.add_(1),
    "by an item": set_item,
    "by a function": lambda m, x: torch.relu_(x),
    "by a function that is told so": lambda m, x: F.relu(x, inplace=True),
    "by a module": lambda m, x: m.overwrite(x),
    "as an output": lambda m, x: torch.mul(x, 2, out=x),
    "by an operator of Python": lambda m, x: operator.iadd(x, 1),
    "by an operator of ATen": lambda m, x: torch.ops.aten.add_.Tensor(x, 1),
    "through a view": lambda m, x: x.transpose(1, 2).add_(1),
    "through a view of a view": lambda m, x: x.transpose(1, 2).unsqueeze(1).add_(1),
    "through a part": lambda m, x: x.chunk(3, 2)[1].mul_(2),
    "after it is read": lambda m, x: x.neg() + x.add_(1),
}
READS: dict[str, Operator] = {
    "by a method": lambda m, x: x.add(1),
    "by an operator of Python": lambda m, x: 1 - x,
    "by a function": lambda m, x: torch.relu(x),
    "by a function that is told so": lambda m, x: F.relu(x, inplace=False),
    "by a module": lambda m, x: m.relu(x),
    "by a module that writes nowhere": lambda m, x: m.sigmoid(x),
    "by an operator of ATen": lambda m, x: torch.ops.aten.add.Tensor(x, 1),
    "as an argument of what writes": lambda m, x: torch.zeros_like(x).add_(x),
    "for a copy that is written to": lambda m, x: x.neg().add_(1),
    "for an output": lambda m, x: torch.mul(x, 2, out=torch.empty_like(x)),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_stepped_view_that_is_written_to_is_refused(name: str) -> None:
    def written(m: Between, x: Tensor) -> Tensor:
        x = x * 1
        WRITES[name](m, x[:, 1::2])
        return x

    model = between(written, conv(12))
    plan = fxprune.plan(model, EXAMPLE, channels={"stem": [2, 4, 6]})
    with pytest.raises(RewriteError) as caught:
        fxprune.shrink(model, plan)
    assert "a view with a step that is written to in place" in caught.value.why
    assert "ignore the groups that reach it" in caught.value.hint


def test_a_stepped_view_of_an_even_step_stays_a_view_that_is_written_to() -> None:
    def written(m: Between, x: Tensor) -> Tensor:
        x = x * 1
        x[:, 1::2].add_(1)
        return x

    model = between(written, conv(12))
    plan = fxprune.plan(model, EXAMPLE, channels={"stem": [0, 1, 10, 11]})
    small = fxprune.shrink(model, plan)
    assert call(small, "getitem").args[1] == (slice(None), slice(1, 8, 2))
    for x in OTHER_SHAPES:
        fxprune.verify(model, small, plan, x)


@pytest.mark.parametrize("name", READS)
def test_a_stepped_view_that_is_only_read_becomes_a_list(name: str) -> None:
    def read(m: Between, x: Tensor) -> Tensor:
        return torch.cat([x, READS[name](m, x[:, 1::2])], 1)

    model = between(read, conv(18))
    plan = fxprune.plan(model, EXAMPLE, channels={"stem": [2, 4, 6]})
    small = fxprune.shrink(model, plan)
    assert call(small, "getitem").args[1][1] == [1, 2, 3, 4, 6, 8]
    for x in OTHER_SHAPES:
        fxprune.verify(model, small, plan, x)


UNMOVED: dict[str, Operator] = {
    "by position": lambda m, x: x.select(1, 0).unsqueeze(1) + x,
    "by keyword": lambda m, x: x.select(dim=1, index=0).unsqueeze(1) + x,
    "by item": lambda m, x: x[:, 0].unsqueeze(1) + x,
    "a roll": lambda m, x: x.roll(shifts=1, dims=1),
}


@pytest.mark.parametrize("name", UNMOVED)
def test_a_position_that_keeps_its_number_is_no_change(name: str) -> None:
    deps = fxprune.analyze(between(UNMOVED[name], conv(12)), EXAMPLE)
    layout = fxprune.plan(deps, channels={"stem": [4, 6]}).layout(deps)
    sliced = Pipeline((SliceState(), AlignAttributes()))(deps.graph_module, layout).graph_module
    result = RepairShapes()(sliced, layout)
    assert not result.modified
    assert result.graph_module.code == sliced.code
