"""The operators that a model runs are those that it runs for real, without views."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fxprune
from fxprune.op_calls import Operand, op_calls, replaced, takes_time
from fxprune.planning.axis_sizes import AxisSizes
from models_zoo import ZOO
from tests.planning.models import Deciding, analyzed_chain, zoo

CONVOLUTIONAL = (
    "classic_cnn",
    "residual",
    "inverted_residual",
    "channel_shuffle",
    "unet",
    "dense_concat",
)


class Counting(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if takes_time(func) and any(isinstance(t, Tensor) for t in tree_leaves(args)):
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_calls_are_those_of_a_real_forward(name: str) -> None:
    deps = zoo(name)
    calls, _ = op_calls(deps)
    inputs = ZOO[name].example_inputs()
    with torch.no_grad(), Counting() as counting:
        deps.graph_module(*inputs)
    assert Counter(str(call.op) for call in calls) == counting.seen


@pytest.mark.parametrize("name", ZOO)
def test_calls_are_found_of_every_model_without_learning_anything_new(name: str) -> None:
    deps = zoo(name)
    before = deps.trace.labels.copy()
    calls, labels = op_calls(deps)
    assert calls
    assert labels.agrees_with(before)
    assert deps.trace.labels.agrees_with(before)
    assert len(deps.trace.labels) == len(before)


def test_operands_know_axes_types_and_their_order_in_memory() -> None:
    model = nn.Linear(3, 8).to(torch.float64)
    deps = fxprune.analyze(model, torch.zeros(5, 3, dtype=torch.float64))
    ((call,), _) = op_calls(deps)
    bias, x, weight, out = call.operands()
    assert [tuple(a.size for a in o.axes) for o in (bias, x, weight, out)] == [
        (8,), (5, 3), (3, 8), (5, 8)
    ]  # fmt: skip
    assert weight.order == (1, 0)  # transposed, as the linear layer hands it on
    assert x.order == (0, 1)
    assert {o.dtype for o in (bias, x, weight, out)} == {torch.float64}


def test_memory_formats_are_kept() -> None:
    model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    ((call,), _) = op_calls(fxprune.analyze(model, torch.zeros(1, 3, 9, 9)))
    assert call.operands()[1].order == (0, 2, 3, 1)


def test_axes_shrink_as_those_of_the_analysis() -> None:
    deps = analyzed_chain(4, 8, 2)
    calls, labels = op_calls(deps)
    axes = [axis for call in calls for operand in call.operands() for axis in operand.axes]
    sizes = AxisSizes(axes, labels)
    mask = np.zeros(len(labels), dtype=np.bool_)
    mask[deps.group("0").ids[:3]] = True
    (number,) = {sizes.number(axis) for axis in axes} - {None}
    assert sizes.of(mask)[number] == 5


def test_the_calls_of_a_recorded_model_are_its_nodes() -> None:
    deps = fxprune.analyze(Deciding().eval(), torch.ones(3, 4))
    assert deps.captured_by == "record"
    calls, labels = op_calls(deps)
    assert labels is deps.trace.labels
    assert [str(call.op) for call in calls].count("aten.addmm.default") == 2
    assert all(call.operands() for call in calls)


def test_what_is_in_lists_tuples_and_dicts_is_replaced() -> None:
    doubled = replaced({"a": [1, (2, 3)], "b": 4}, lambda value: value * 2)
    assert doubled == {"a": [2, (4, 6)], "b": 8}
    operand = Operand((), torch.float32, ())
    assert replaced([operand], lambda value: value) == [operand]
